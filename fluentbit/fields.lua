-- Fields of an application's JSON and texts of any kind, in a form that every backend takes: flat, few, short, UTF-8, without
-- secrets, and never in the place of one of ours. `otel/logs.yaml` does the same in the Collector.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
local redact = dofile(here .. "redact.lua")

local MAX_FIELD = 8 * 1024 -- bytes of one field of the application
local MAX_FIELDS = 64 -- of the application in one record, the rest becomes the text of one; Loki takes 128 with ours
local MAX_DEPTH = 8 -- of nested maps and lists that become fields of their own

local M = {}

-- ---------------------------------------------------------------------------------------------------------------------
-- Text that every backend takes

-- The text with U+FFFD for each byte that is no UTF-8.
local function utf8(text)
    local parts, from, i, size = nil, 1, 1, #text
  while i <= size do
    local first = text:byte(i)
    local second, length = text:byte(i + 1) or 0, 1
    if first >= 194 and first <= 223 then
      length = second >= 128 and second < 192 and 2 or 0
    elseif first >= 224 and first <= 239 then
      local low, high = first == 224 and 160 or 128, first == 237 and 160 or 192
      local third = text:byte(i + 2) or 0
      length = second >= low and second < high and third >= 128 and third < 192 and 3 or 0
    elseif first >= 240 and first <= 244 then
      local low, high = first == 240 and 144 or 128, first == 244 and 144 or 192
      local third, fourth = text:byte(i + 2) or 0, text:byte(i + 3) or 0
      length = second >= low and second < high and third >= 128 and third < 192 and fourth >= 128 and fourth < 192 and 4 or 0
    elseif first >= 128 then
      length = 0
    end
    if length == 0 then
      parts = parts or {}
      parts[#parts + 1] = text:sub(from, i - 1) .. "\239\191\189"
      from, i = i + 1, i + 1
    else
      i = i + length
    end
  end
  if not parts then return text end
  return table.concat(parts) .. text:sub(from)
end

-- At most so many bytes of a text, and no part of a character.
local function cut(text, size)
  if #text <= size then return text end
  while size > 0 and (text:byte(size + 1) or 0) >= 128 and text:byte(size + 1) < 192 do size = size - 1 end
  return text:sub(1, size)
end

-- Without the sequences that control a terminal: colours, cursor, links.
local function without_controls(text)
  if text:find("\27", 1, true) then
    text = text:gsub("\27%[[%d;:?<=>]*[ -/]*[@-~]", ""):gsub("\27%][^\7\27]*\7", ""):gsub("\27%][^\7\27]*\27\\", "")
               :gsub("\27[()][%w]", ""):gsub("\27.?", "")
  end
  return (text:gsub("[%z\1-\8\11\12\14-\31\127]", ""))
end

function M.clean(text, size)
  if #text <= size and not text:find("[%c\127-\255]") then return text end
  return utf8(without_controls(cut(text, size)))
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Fields of the application: flat, without secrets, and never in the place of ours

local OURS = { message = true, level = true, level_name = true, component = true, application = true, deployment = true,
               replica = true, node = true, session = true, request_id = true, trace_id = true, span_id = true, method = true,
               route = true, status = true, latency_ms = true, call_method = true, client = true, log_type = true, event = true,
               exception = true, truncated = true, source = true, pid = true, worker_id = true, job_id = true, node_id = true,
               stream = true, severity_number = true, cluster = true, job = true, unread = true, fields = true, meta = true,
               server = true, path = true, ["service.name"] = true }

local flatten
local function put(fields, name, value, depth)
  local kind = type(value)
  if kind == "table" then
    if depth < MAX_DEPTH then return flatten(fields, name, value, depth) end
    value, fields.hidden = "...", true -- deeper than anything that is queried
  elseif kind == "string" then
    value = M.clean(redact.short(value), MAX_FIELD)
  elseif kind ~= "number" and kind ~= "boolean" then
    return
  elseif kind == "number" and (value ~= value or value == math.huge or value == -math.huge) then
    value = tostring(value)
  end
  fields.count = fields.count + 1
  fields.names[fields.count], fields.values[fields.count] = name, value
end

-- A list's members count from 0. ["x-api-key", "..."] and {name: password, value: ...} are a name and its value too.
function flatten(fields, prefix, value, depth)
  local list = value[1] ~= nil
  local named = list and value[1] or value.name or value.key
  local secret = type(named) == "string" and redact.secret_name(named)
  for key, inner in pairs(value) do
    local name = type(key) == "number" and tostring(key - 1) or key
    if redact.secret_name(name) or secret and (key == 2 or name == "value") then
      fields.hidden = true
    else
      put(fields, prefix .. "." .. name, inner, depth + 1)
    end
  end
end

local function quoted(text)
  return '"' .. text:gsub('[%c"\\]', function(c)
    return c == '"' and '\\"' or c == "\\" and "\\\\" or c == "\n" and "\\n" or string.format("\\u%04x", c:byte())
  end) .. '"'
end

-- All fields as the text of one: more of them than a backend takes.
local function as_text(fields)
  local order, parts = {}, {}
  for i = 1, fields.count do order[i] = i end
  table.sort(order, function(a, b) return fields.names[a] < fields.names[b] end)
  for place, i in ipairs(order) do
    local value = fields.values[i]
    parts[place] = quoted(fields.names[i]) .. ":" .. (type(value) == "string" and quoted(value) or tostring(value))
  end
  return cut("{" .. table.concat(parts, ",") .. "}", 2 * MAX_FIELD)
end

-- Adds what the application gave to a record; `known` are keys that were read already. Returns all of it as text if that is
-- less than the line has: a secret was left out by its name.
function M.add(r, given, known)
  local fields
  for name, value in pairs(given) do
    if not (known and known[name]) then
      fields = fields or { names = {}, values = {}, count = 0 }
      if redact.secret_name(name) then
        fields.hidden = true
      else
        name = M.clean(name, 128)
        put(fields, OURS[name] and "app_" .. name or name, value, 1)
      end
    end
  end
  if not fields then return nil end
  if fields.count > MAX_FIELDS then
    r.fields = as_text(fields)
  else
    for i = 1, fields.count do r[fields.names[i]] = fields.values[i] end
  end
  return fields.hidden and as_text(fields)
end

return M
