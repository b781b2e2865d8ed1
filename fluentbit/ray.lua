-- One record of Ray's logs, as Fluent Bit read it, becomes flat fields.
--   in : {log = <one record as written, with its continuation lines>, file = <path>}, or, where the record is JSON, its keys
--   out: message, level, component, node, session and, where they exist, application, deployment, replica, request_id,
--        trace_id, span_id, route, method, status, latency_ms, event, source, ... (docs/logs.md lists them)
-- `otel/logs.yaml` does the same in the Collector; tests/fixtures/logs/cases.yaml holds both to one table.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
local redact = dofile(here .. "redact.lua")

-- With an unknown output Fluent Bit would drop every record silently: fail at startup instead.
local target = os.getenv("RAY_LOGS_TO") or "loki"
assert(target == "loki" or target == "otlp" or target == "stdout",
       "RAY_LOGS_TO=" .. target .. ": there are the outputs loki, otlp and stdout")

local MAX_MESSAGE = 200 * 1024 -- bytes; Loki refuses lines over 256 KB by default
local LEVELS = { I = "INFO", W = "WARNING", E = "ERROR", C = "CRITICAL", F = "FATAL", D = "DEBUG", T = "TRACE" }
local SEVERITY = { TRACE = 1, DEBUG = 5, INFO = 9, WARNING = 13, ERROR = 17, CRITICAL = 21, FATAL = 21 } -- OpenTelemetry
local KEEP_COPIES = os.getenv("RAY_KEEP_STDERR_COPY") == "1"

local function node_name()
  local name = os.getenv("NODE_NAME")
  if name and name ~= "" then return name end
  local file = io.open("/proc/sys/kernel/hostname")
  if not file then return "unknown" end
  name = file:read("*l")
  file:close()
  return name
end
local NODE = node_name()
-- RAY_TMP=/ray/*: one agent reads the directories of several nodes, each named after its node
local NODE_IN_PATH = (os.getenv("RAY_TMP") or ""):sub(-2) == "/*"

-- ---------------------------------------------------------------------------------------------------------------------
-- Application and deployment
--
-- Text logs and file names join the two with "_", which also occurs in names. The controller's lines, the header of a
-- worker's file and the actor's name in JSON have the exact pair and are remembered; before that, RAY_SERVE_APPS
-- ("my_app|main") decides, and without it the last "_".

local known, known_count = {}, 0
local files, files_count = {}, 0
local APPLICATIONS = {}
for name in (os.getenv("RAY_SERVE_APPS") or ""):gmatch("[^|,%s]+") do APPLICATIONS[#APPLICATIONS + 1] = name end
table.sort(APPLICATIONS, function(a, b) return #a > #b end)

local function learn(application, deployment)
  local joined = application .. "_" .. deployment
  local pair = known[joined]
  if pair and pair[1] == application then return end
  if known_count > 4096 then known, known_count = {}, 0 end
  known[joined] = { application, deployment }
  known_count = known_count + 1
  files, files_count = {}, 0 -- parsed from names that may now be known exactly
end

local function split(joined)
  local pair = known[joined]
  if pair then return pair[1], pair[2] end
  for _, application in ipairs(APPLICATIONS) do
    if joined:sub(1, #application + 1) == application .. "_" then
      return application, joined:sub(#application + 2)
    end
  end
  local application, deployment = joined:match("^(.*)_([^_]+)$")
  if application then return application, deployment end
  return nil, joined
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Fields from the path

local PREFIXES = { -- of a file's name, the first that fits
  { "python-core-worker-", "core_worker", "^python%-core%-worker%-(%x+)_(%d+)" },
  { "python-core-driver-", "core_driver", "^python%-core%-driver%-(%x+)_(%d+)" },
  { "job-driver-", "job_driver" },
  { "dashboard_agent", "dashboard_agent" },
  { "dashboard", "dashboard" },
  { "runtime_env_setup", "runtime_env" },
  { "runtime_env_agent", "runtime_env_agent" },
}

local function of_path(path)
  local fields = files[path]
  if fields then return fields end
  if files_count > 4096 then files, files_count = {}, 0 end
  fields = { session = path:match("/(session_[^/]+)/") }
  fields.node = NODE_IN_PATH and path:match("/([^/]+)/session_") or NODE
  local base = path:match("([^/]+)$") or path
  if path:find("/logs/serve/", 1, true) then
    local joined, replica = base:match("^replica_(.+)_([^_]+)%.log")
    if joined then
      fields.component, fields.replica = "serve_replica", replica
      fields.application, fields.deployment = split(joined)
    else
      local kind = base:match("^(%a+)_")
      fields.component = (kind == "proxy" or kind == "controller") and "serve_" .. kind or "serve"
      fields.application = base:match("^controller_build_(.+)_%d+%.log")
    end
  elseif path:find("/logs/events/", 1, true) or path:find("/logs/export_events/", 1, true) then
    fields.component = "event"
  elseif base:sub(1, 7) == "worker-" then
    fields.component = "worker"
    fields.worker_id, fields.job_id, fields.pid = base:match("^worker%-(%x+)%-(%x+)%-(%d+)")
    fields.stream = base:find(".err", 1, true) and "stderr" or "stdout"
  else
    for _, prefix in ipairs(PREFIXES) do
      if base:sub(1, #prefix[1]) == prefix[1] then
        fields.component = prefix[2]
        if prefix[3] then fields.worker_id, fields.pid = base:match(prefix[3]) end
        break
      end
    end
    if fields.component == "job_driver" then fields.job_id = base:match("^job%-driver%-(.-)%.log") end
    fields.component = fields.component or base:match("^([%a_]+)") or "ray"
  end
  files[path] = fields
  files_count = files_count + 1
  return fields
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Time: text has no time zone, it is the local time of Ray's process. os.time reads it in Fluent Bit's own, so give both
-- the same TZ. One lookup per hour of log, since os.time is slow; no zone changes within an hour of its clock.

local hour_key, hour_start
local function when(year, month, day, hour, minute, second, nanoseconds)
  local key = year .. month .. day .. hour
  if key ~= hour_key then
    hour_start = os.time { year = tonumber(year), month = tonumber(month), day = tonumber(day), hour = tonumber(hour),
                           min = 0, sec = 0 }
    hour_key = key
  end
  return { sec = hour_start + minute * 60 + second, nsec = nanoseconds }
end

local STAMP = "(%d%d%d%d)-(%d%d)-(%d%d) (%d%d):(%d%d):(%d%d),(%d%d%d)"
local SERVE_TEXT = "^(%u+) " .. STAMP .. " (%S+) (%S+) (.*)$"
local RAY_TEXT = "^%[?" .. STAMP .. "%s(.*)$"

-- ---------------------------------------------------------------------------------------------------------------------
-- The formats. Each fills the record and returns message and time; nil as the message drops the record.

-- LEVEL time component id [request_id] [more attributes] -- message
local function serve_text(r, file, level, time, component, id, rest)
  r.level = level
  local before, message = "", rest
  if rest:sub(1, 3) == "-- " then
    message = rest:sub(4)
  else
    local at = rest:find(" -- ", 1, true)
    if at then before, message = rest:sub(1, at - 1), rest:sub(at + 4) end
  end
  -- the id comes first; with additional_log_standard_attrs other words follow it, or come alone if there is none
  local request_id = before:match("^%S+$") or before:match("^(%x+%-%x+%-%x+%-%x+%-%x+) ")
  if request_id then r.request_id = request_id end
  if file.component == "worker" or file.component == "job_driver" then
    if component == "serve" then
      r.component = "serve" -- a driver's own lines are nowhere else
    else
      if not KEEP_COPIES then return nil end -- RAY_SERVE_LOG_TO_STDERR=1: the same line is in logs/serve
      if component == "proxy" or component == "controller" then
        r.component = "serve_" .. component
      else
        r.component, r.replica = "serve_replica", id
        r.application, r.deployment = split(component)
      end
    end
  end
  return message, time
end

-- [time L pid tid] (program) file.cc:1: message, or: time<tab>LEVEL file.py:1 -- message
local function ray_text(r, rest, time)
  local letter, pid, message = rest:match("^(%u) (%d+) %d+%]%s*(.*)$")
  if letter then
    r.level, r.pid = LEVELS[letter], pid
    message = message:gsub("^%([%w_]+%) ", "", 1)
    local source, text = message:match("^([%w_%.%-/]+:%d+): (.*)$")
    if source then r.source = source end
    return text or message, time
  end
  local level, source, text = rest:match("^(%u+) (%S+:%d+) %-%- (.*)$")
  if level then
    r.level, r.source = level, source
    return text, time
  end
  return rest, time
end

-- Printed lines, a worker's header, a bare traceback
local function plain(r, file, raw)
  local value = raw:match("^:[%a_]+:(.*)$")
  if value then
    local application, deployment = value:match("^ServeReplica:(.-):(.+)$")
    if application then learn(application, deployment) end
    return nil
  end
  if raw:find("Traceback (most recent call last)", 1, true) then
    r.level = "ERROR"
  elseif file.stream == "stderr" then
    r.level = "UNKNOWN"
  end
  return raw
end

-- 10.0.0.1:5678 [23/Nov/2026:14:36:02.385] frontend backend/server 0/0/1/139/140 200 ... "GET /path HTTP/1.1"
local MONTHS = { Jan = "01", Feb = "02", Mar = "03", Apr = "04", May = "05", Jun = "06", Jul = "07", Aug = "08",
                 Sep = "09", Oct = "10", Nov = "11", Dec = "12" }
local function haproxy(r, raw)
  r.component = "haproxy"
  local severity = tonumber(r.pri or 6) % 8
  r.level = severity <= 3 and "ERROR" or severity == 4 and "WARNING" or severity == 7 and "DEBUG" or "INFO"
  r.pri = nil
  local client, day, month, year, hour, minute, second, ms, server, total, status, method, path = raw:match(
    '^(%S+) %[(%d+)/(%a+)/(%d+):(%d+):(%d+):(%d+)%.(%d+)%] %S+ (%S+) [%d%-/]+/(%d+) (%d+) .-"(%u+) (%S+)')
  if not client then return raw end
  r.log_type, r.client, r.server, r.status, r.method, r.path = "access", client, server, status, method,
    redact.text(path)
  r.latency_ms = tonumber(total)
  return raw, when(year, MONTHS[month] or "01", day, hour, minute, second, tonumber(ms) * 1000000)
end

-- Serve's JSON encoding, and RAY_BACKEND_LOG_JSON=1 of the C++ programs
local function ray_json(r)
  r.level = LEVELS[r.levelname] or r.levelname
  local message, time = r.message or "", nil
  if r.timestamp_ns then
    local ns = r.timestamp_ns -- a double here: exact to a quarter of a microsecond
    time = { sec = math.floor(ns / 1e9), nsec = math.floor(ns % 1e9) }
  elseif r.asctime then
    local year, month, day, hour, minute, second, ms = r.asctime:match("^" .. STAMP)
    if year then time = when(year, month, day, hour, minute, second, tonumber(ms) * 1000000) end
  end
  if r.filename then r.source = r.filename .. ":" .. string.format("%d", r.lineno or 0) end
  if r.process then r.pid = string.format("%d", r.process) end
  local application, deployment, replica = (r.actor_name or ""):match("^SERVE_REPLICA::(.-)#(.+)#([^#]+)$")
  if application then
    r.application, r.deployment, r.replica = application, deployment, replica
    learn(application, deployment)
  elseif r.deployment then
    r.application, r.deployment = split(r.deployment)
  end
  if r.exc_text then
    message = message .. "\n" .. r.exc_text
    r.exc_text = nil
  end
  r.levelname, r.asctime, r.timestamp_ns, r.filename, r.lineno, r.process = nil, nil, nil, nil, nil, nil
  r.component_name, r.component_id, r.log_to_stderr, r.actor_name, r.actor_id = nil, nil, nil, nil, nil
  r.task_name, r.task_func_name = nil, nil
  return message, time
end

-- Ray's event files
local function event_json(r)
  r.level = r.severity
  local time = tonumber(r.timestamp)
  local fields = r.custom_fields
  if type(fields) == "table" then
    for name, value in pairs(fields) do
      if r[name] == nil and type(value) ~= "table" then r[name] = value end
    end
  end
  local source = r.source_type
  r.pid = r.source_pid and string.format("%d", r.source_pid)
  r.severity, r.timestamp, r.custom_fields, r.source_type, r.source_pid = nil, nil, nil, nil, nil
  r.source_hostname, r.event_id = nil, nil
  r.source = source
  return r.message or "", time and { sec = math.floor(time), nsec = 0 }
end

-- A truncated JSON line is not valid JSON; its first keys still identify it.
local function cut_json(r, raw)
  r.truncated = true
  local level = raw:match('"levelname": "(%u+)"')
  if level then r.level = LEVELS[level] or level end
  r.request_id = raw:match('"request_id": "([^"]+)"')
  local year, month, day, hour, minute, second, ms = raw:match('^{"asctime": "' .. STAMP)
  local message = raw:match('"message": "(.*)$') or raw
  return message, year and when(year, month, day, hour, minute, second, tonumber(ms) * 1000000)
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Fields from the message

-- [client ]METHOD route status 1.2ms | CALL method OK 1.2ms | /pkg.Service/Method application CODE 1.2ms
local function access(r, message)
  local head, status, ms = message:match("^(.*) (%S+) ([%d%.]+)ms$")
  if not head or not (status:find("^%d%d%d$") or status:find("^%u[%u_]+$")) then return end
  local method, route = head:match("^(%u+) (%S*)$")
  if not method then method, route = head:match("^(/%S+) (%S*)$") end
  local client
  if not method then client, method, route = head:match("^(%S+:%d+) (%u+) (%S*)$") end
  if not method then client, method, route = head:match("^(%S+:%d+) (/%S+) (%S*)$") end
  if not method then return end
  r.log_type, r.client, r.status, r.latency_ms = "access", client, status, tonumber(ms)
  if method == "CALL" then
    r.method, r.call_method = method, route
  elseif method:sub(1, 1) == "/" then
    r.method, r.call_method = "GRPC", method
    if route ~= "" then r.route = r.route or route end
  else
    r.method, r.route = method, r.route or route
  end
end

-- The controller names the deployment it acts on; the line then belongs to it, and some lines are events.
local CONTROLLER_EVENTS = {
  { "^Upscaling Deployment", "upscale" },
  { "^Downscaling Deployment", "downscale" },
  { "^Actor for Replica.* crashed", "replica_crash" },
  { "^Replica .* failed the health check %d+ times in a row", "replica_unhealthy" },
}
local function controller(r, message)
  local deployment, application = message:match("Deployment%(name='(.-)', app='(.-)'%)")
  local replica
  if not deployment then
    replica, deployment, application = message:match("Replica%(id='(.-)', deployment='(.-)', app='(.-)'%)")
  end
  if not deployment then return end
  learn(application, deployment)
  r.application, r.deployment, r.replica = application, deployment, replica
  for i = 1, #CONTROLLER_EVENTS do
    if message:find(CONTROLLER_EVENTS[i][1]) then
      r.event = CONTROLLER_EVENTS[i][2]
      return
    end
  end
end

-- Fields of this script or of Ray; every other one comes from the application and may contain anything.
local OURS = { message = true, level = true, component = true, application = true, deployment = true, replica = true,
               node = true, session = true, request_id = true, trace_id = true, span_id = true, method = true,
               route = true, status = true, latency_ms = true, call_method = true, client = true, log_type = true, event = true,
               exception = true, truncated = true, source = true, pid = true, worker_id = true, job_id = true,
               node_id = true, stream = true, file = true, severity_number = true }

-- The part of such a field that may be sent; nil if none may.
local function of_application(name, value)
  if redact.secret_name(name) then return nil end
  if type(value) == "string" then return redact.text(value) end
  return value
end

local function from_json(r)
  for name, value in pairs(r) do
    if not OURS[name] then r[name] = of_application(name, value) end
  end
end

-- ---------------------------------------------------------------------------------------------------------------------
-- What Fluent Bit calls. The result is its code: -1 drops the record, 1 replaces time and record.

local function read(tag, time, r)
  local file = of_path(r.file or "")
  local message, stamp
  local raw = r.log
  local json = raw == nil
  if tag:sub(-8) == ".haproxy" then
    message, stamp = haproxy(r, raw or "")
  elseif r.levelname then
    message, stamp = ray_json(r)
  elseif json and r.severity and r.message then
    message, stamp = event_json(r)
  elseif json then
    message = type(r.message) == "string" and r.message or "" -- printed JSON
  else
    if raw:sub(-1) == "\n" then raw = raw:sub(1, -2) end
    local level, year, month, day, hour, minute, second, ms, component, id, rest = raw:match(SERVE_TEXT)
    if level then
      message, stamp = serve_text(r, file, level, when(year, month, day, hour, minute, second, tonumber(ms) * 1000000),
                                  component, id, rest)
    else
      year, month, day, hour, minute, second, ms, rest = raw:match(RAY_TEXT)
      if year then
        message, stamp = ray_text(r, rest, when(year, month, day, hour, minute, second, tonumber(ms) * 1000000))
      elseif #raw > MAX_MESSAGE and raw:sub(1, 2) == '{"' then
        message, stamp = cut_json(r, raw)
      else
        message = plain(r, file, raw)
      end
    end
  end
  r.log = nil
  if message == nil then return -1, time, r end

  for name, value in pairs(file) do
    if r[name] == nil then r[name] = value end
  end
  r.level = r.level or "INFO"
  r.severity_number = SEVERITY[r.level] or 0
  if #message > MAX_MESSAGE then
    message, r.truncated = message:sub(1, MAX_MESSAGE), true
  end
  if message:find("\27[", 1, true) then message = message:gsub("\27%[[%d;]*m", "") end
  if message:sub(-2) == "ms" then access(r, message) end
  if r.component == "serve_controller" then
    controller(r, message)
  elseif r.level == "WARNING" and message:find("^Request dropped due to backpressure") then
    r.event = "backpressure"
  end
  if message:find("Traceback (most recent call last)", 1, true) then r.exception = true end
  if not r.trace_id then
    local at = message:find("trace_id=", 1, true)
    if at then
      local trace_id = message:match("^%x+", at + 9)
      if trace_id and #trace_id == 32 then
        r.trace_id, r.span_id = trace_id, message:match("span_id=(" .. ("%x"):rep(16) .. ")")
      end
    end
  end
  r.message = redact.text(message)
  return 1, stamp or time, r, json
end

function ray(tag, time, r)
  local code, stamp, record, json = read(tag, time, r)
  if code > 0 and json then from_json(record) end
  return code, stamp, record
end

-- For Loki: the labels stay at the top level, the rest goes into one map that becomes structured metadata, as text.
local TOP = { message = true, level = true, component = true, application = true, deployment = true, node = true }
local NOT_SENT = { file = true, severity_number = true }

local function put(map, name, value)
  local kind = type(value)
  if kind == "table" then
    for key, inner in pairs(value) do put(map, name .. "_" .. key, inner) end
  elseif kind == "number" then
    map[name] = string.format(value == math.floor(value) and "%d" or "%.10g", value)
  else
    map[name] = tostring(value)
  end
end

function loki(tag, time, r)
  local code, stamp, record, json = read(tag, time, r)
  if code < 0 then return code, stamp, record end
  local out, meta = {}, {}
  for name, value in pairs(record) do
    if TOP[name] then
      out[name] = value
    elseif json and not OURS[name] then
      value = of_application(name, value)
      if value ~= nil then put(meta, name, value) end
    elseif not NOT_SENT[name] then
      put(meta, name, value)
    end
  end
  out.event = record.event -- for the metrics made from it
  out.meta = meta
  return 1, stamp, out
end
