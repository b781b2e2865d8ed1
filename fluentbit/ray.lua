-- One record of Ray's logs, as Fluent Bit read it, becomes flat fields.
--   in : {["ray.line"] = <one record as written, with its continuation lines>, ["ray.file"] = <path>} and, where the record
--        is JSON, its keys
--   out: message, level, component, node, session and, where they exist, application, deployment, replica, request_id,
--        trace_id, span_id, route, method, status, latency_ms, event, source, ... (docs/logs.md lists them), and the fields
--        of the application; those that bear a name of ours get the prefix app_
-- `otel/logs.yaml` does the same in the Collector; tests/fixtures/logs/cases.yaml holds both to one table.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
local redact = dofile(here .. "redact.lua")
local loggers = dofile(here .. "loggers.lua")
local fields = dofile(here .. "fields.lua")

-- With an unknown output Fluent Bit would drop every record silently: fail at startup instead.
local target = os.getenv("RAY_LOGS_TO") or "loki"
assert(target == "loki" or target == "otlp" or target == "stdout",
       "RAY_LOGS_TO=" .. target .. ": there are the outputs loki, otlp and stdout")

local LINE, FILE = "ray.line", "ray.file" -- keys that no application uses
local MAX_MESSAGE = 200 * 1024 -- bytes; Loki refuses lines over 256 KB by default
local SEVERITY = { TRACE = 1, DEBUG = 5, INFO = 9, WARNING = 13, ERROR = 17, CRITICAL = 21, FATAL = 21 } -- OpenTelemetry
local KEEP_COPIES = os.getenv("RAY_KEEP_STDERR_COPY") == "1"
local TRACEBACK = "Traceback (most recent call last)"

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
-- Text logs and file names join the two with "_", which also occurs in names; a file's name has "_" for "/", ":" and the
-- like too. The controller's lines, the header of a worker's file and the actor's name in JSON have the exact pair and are
-- remembered in both forms; before that, RAY_SERVE_APPS ("my_app|main") decides, and without it the last "_" before the
-- first ":" or "/", which names of applications seldom have.

local known, known_count = {}, 0
local files, files_count = {}, 0
local APPLICATIONS = {}
for name in (os.getenv("RAY_SERVE_APPS") or ""):gmatch("[^|,]+") do APPLICATIONS[#APPLICATIONS + 1] = name end
table.sort(APPLICATIONS, function(a, b) return #a > #b end)

local function as_in_file(name) return (name:gsub("[^\32-\126]", "_"):gsub('[<>:"/\\|?*]', "_")) end

local function learn(application, deployment)
  local joined = application .. "_" .. deployment
  local pair = known[joined]
  if pair and pair[1] == application then return end
  if known_count > 4096 then known, known_count = {}, 0 end
  pair = { application, deployment }
  known[joined], known[as_in_file(joined)] = pair, pair
  known_count = known_count + 1
  files, files_count = {}, 0 -- parsed from names that may now be known exactly
end

local function split(joined)
  local pair = known[joined]
  if pair then return pair[1], pair[2] end
  for _, application in ipairs(APPLICATIONS) do
    for _, name in ipairs { application, as_in_file(application) } do
      if joined:sub(1, #name + 1) == name .. "_" then return application, joined:sub(#name + 2) end
    end
  end
  local before = joined:match("^[^:/]*")
  local application = before:match("^(.*)_[^_]+$")
  if application and application ~= "" then return application, joined:sub(#application + 2) end
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

-- What the path of a file says of all its records: `fields`, and who writes the file: `serve` or another part of `ray`;
-- neither if it has what workers and drivers print.
local function of_path(path)
  local file = files[path]
  if file then return file end
  if files_count > 4096 then files, files_count = {}, 0 end
  local known_fields = { session = path:match("/(session_[^/]+)/") }
  file = { fields = known_fields }
  known_fields.node = NODE_IN_PATH and path:match("/([^/]+)/session_") or NODE
  local base = path:match("([^/]+)$") or path
  if path:find("/logs/serve/", 1, true) then
    file.serve = true
    local joined, replica = base:match("^replica_(.+)_([^_]+)%.log")
    if joined then
      known_fields.component, known_fields.replica, file.id = "serve_replica", replica, replica
      known_fields.application, known_fields.deployment = split(joined)
    else
      local kind = base:match("^(%a+)_")
      known_fields.component = (kind == "proxy" or kind == "controller") and "serve_" .. kind or "serve"
      known_fields.application = base:match("^controller_build_(.+)_%d+%.log")
      file.id = base:match("^%a+_([^_]+)%.log")
    end
  elseif path:find("/logs/events/", 1, true) or path:find("/logs/export_events/", 1, true) then
    known_fields.component, file.ray = "event", true
  elseif base:sub(1, 7) == "worker-" then
    known_fields.component = "worker"
    known_fields.worker_id, known_fields.job_id, known_fields.pid = base:match("^worker%-(%x+)%-(%x+)%-(%d+)")
    known_fields.stream = base:find(".err", 1, true) and "stderr" or "stdout"
  else
    for _, prefix in ipairs(PREFIXES) do
      if base:sub(1, #prefix[1]) == prefix[1] then
        known_fields.component = prefix[2]
        if prefix[3] then known_fields.worker_id, known_fields.pid = base:match(prefix[3]) end
        break
      end
    end
    known_fields.component = known_fields.component or base:match("^([%a_]+)") or "ray"
    if known_fields.component == "job_driver" then
      known_fields.job_id = base:match("^job%-driver%-(.-)%.log")
    else
      file.ray = true
    end
  end
  files[path] = file
  files_count = files_count + 1
  return file
end

-- ---------------------------------------------------------------------------------------------------------------------
-- The formats. Each fills the record and returns message and time; nil as the message drops the record.

local STAMP = "(%d%d%d%d)-(%d%d)-(%d%d) (%d%d):(%d%d):(%d%d),(%d%d%d)"
-- a level may be one of an application's own: SUCCESS, Level 25
local SERVE_TEXT = "^(%u[%w_ ]-) " .. STAMP .. " (.*)$"
local RAY_TEXT = "^%[?" .. STAMP .. "%s(.*)$"

local function set_level(r, value)
  r.level, r.level_name = loggers.level(value)
end

-- What stands between Serve's id and the message: [request_id] [attributes of additional_log_standard_attrs]. An id may be
-- any text; attributes are told from it by a UUID before them, or by the logger's name among them.
local function request_id(before)
  if before == "" or before:find("^%S+$") then return before ~= "" and before or nil end
  local id = before:match("^(%x+%-%x+%-%x+%-%x+%-%x+) ")
  if id then return id end
  if not (" " .. before .. " "):find(" ray.serve ", 1, true) then return before end
  id = before:match("^%S+")
  if not id:find("^[%a_][%w_]*$") and id ~= "ray.serve" then return id end -- else funcName, without an id
end

local REPLICA = "^[^\n]-_%S+ " .. ("[%l%d]"):rep(8) .. " " -- application_deployment id
local WRITERS = { serve = true, proxy = true, controller = true }

-- LEVEL time component id [request_id] [more attributes] -- message
local function serve_text(r, file, level, time, rest)
  local component, id, after
  if file.id then -- known exactly; a component may contain blanks
    local at = rest:find(" " .. file.id .. " ", 1, true)
    if at then component, id, after = rest:sub(1, at - 1), file.id, rest:sub(at + #file.id + 2) end
  end
  if not component then component, id, after = rest:match("^(%S+) (%S+) (.*)$") end
  if not component then return false end
  local before, message = "", after
  if after:sub(1, 3) == "-- " then
    message = after:sub(4)
  else
    local at = after:find(" -- ", 1, true)
    if at then
      before, message = after:sub(1, at - 1), after:sub(at + 4)
    elseif not file.serve then
      return false -- another logger's format
    end
  end
  if not file.serve then
    if component == "serve" then
      r.component = "serve" -- a driver's own lines are nowhere else
    elseif WRITERS[component] or rest:find(REPLICA) then
      if not KEEP_COPIES then return nil end -- RAY_SERVE_LOG_TO_STDERR=1: the same line is in logs/serve
      if WRITERS[component] then
        r.component = "serve_" .. component
      else
        r.component, r.replica = "serve_replica", id
        r.application, r.deployment = split(component)
      end
    else
      return false
    end
  elseif file.fields.replica and id == file.fields.replica then
    if file.component ~= component then -- the names themselves, where the file's has "_" for some characters
      file.component, file.application, file.deployment = component, split(component)
    end
    r.application, r.deployment = file.application, file.deployment
  end
  set_level(r, level)
  r.request_id = request_id(before)
  return message, time
end

-- [time L pid tid] (program) file.cc:1: message, or: time<tab>LEVEL file.py:1 -- message
local function ray_text(r, file, rest, time)
  local letter, pid, message = rest:match("^(%u) (%d+) %d+%]%s*(.*)$")
  if letter then
    set_level(r, letter)
    r.pid = pid
    message = message:gsub("^%([%w_]+%) ", "", 1)
    local source, text = message:match("^([%w_%.%-/]+:%d+): (.*)$")
    if source then r.source = source end
    return text or message, time
  end
  local level, source, text = rest:match("^(%u+) (%S+:%d+) %-%- (.*)$")
  if level then
    set_level(r, level)
    r.source = source
    return text, time
  end
  if file.ray or file.serve then return rest, time end
  return false
end

-- Printed lines, a worker's header, a bare traceback
local function plain(r, file, raw)
  local value = raw:match("^:actor_name:(.*)$") or raw:find("^:job_id:%S*$") and "" or raw:find("^:task_name:") and ""
  if value then
    local application, deployment = value:match("^ServeReplica:(.-):(.+)$")
    if application then learn(application, deployment) end
    return nil
  end
  local stamp
  if not file.serve and not file.ray then
    if file.fields.component == "job_driver" and not KEEP_COPIES and raw:find("^[\27%[%d;m]*%([%w_:%./ ]+ pid=%d+[^)]*%)") then
      return nil -- Ray prints in a driver what its workers printed: the same line is in their files
    end
    if raw:find("__ray_tqdm_magic_token__", 1, true) then return nil end -- the state of a progress bar, for Ray's driver
    raw = loggers.last_written(raw)
    r.level, stamp, r.level_name = loggers.head(raw)
  end
  if not r.level then
    if raw:find(TRACEBACK, 1, true) or raw:find("\n\tat ", 1, true) then
      r.level = "ERROR"
    elseif file.fields.stream == "stderr" then
      r.level = "UNKNOWN"
    end
  end
  return raw, stamp
end

-- 10.0.0.1:5678 [23/Nov/2026:14:36:02.385] frontend backend/server 0/0/1/139/140 200 ... "GET /path HTTP/1.1"
local MONTHS = { Jan = "01", Feb = "02", Mar = "03", Apr = "04", May = "05", Jun = "06", Jul = "07", Aug = "08",
                 Sep = "09", Oct = "10", Nov = "11", Dec = "12" }
local function haproxy(r, raw, given)
  r.component, r.pid = "haproxy", given.pid
  local severity = tonumber(given.pri or 6) % 8
  r.level = severity <= 3 and "ERROR" or severity == 4 and "WARNING" or severity == 7 and "DEBUG" or "INFO"
  local client, day, month, year, hour, minute, second, ms, server, total, status, method, path = raw:match(
    '^(%S+) %[(%d+)/(%a+)/(%d+):(%d+):(%d+):(%d+)%.(%d+)%] %S+ (%S+) [%d%-]+/[%d%-/]+/(%d+) (%d+) .-"(%u+) (%S+)')
  if not client then return raw end
  r.log_type, r.client, r.server, r.status, r.method, r.path = "access", client, server, status, method,
    redact.text(path)
  r.latency_ms = tonumber(total)
  return raw, loggers.when(year, MONTHS[month] or "01", day, hour, minute, second, tonumber(ms) * 1000000)
end

-- Keys of JSON that Serve and Ray write. TAKEN become fields of that name; the others are read below, or not sent.
local TAKEN = { "request_id", "route", "replica", "worker_id", "node_id", "trace_id", "span_id" }
local READ = { levelname = true, asctime = true, timestamp_ns = true, message = true, exc_text = true, filename = true,
               lineno = true, process = true, application = true, deployment = true, component_name = true, component_id = true,
               log_to_stderr = true, actor_name = true, actor_id = true, task_name = true, task_func_name = true, task_id = true }
for _, name in ipairs(TAKEN) do READ[name] = true end

local function whole(value)
  return tonumber(value) and string.format("%d", tonumber(value)) or nil
end

-- Serve's JSON encoding, and RAY_BACKEND_LOG_JSON=1 of the C++ programs
local function ray_json(r, file, given)
  set_level(r, given.levelname)
  local message, stamp = given.message, nil
  if type(message) ~= "string" then
    given.app_message, message = message, false -- an object or a number that was logged
  end
  local ns = tonumber(given.timestamp_ns)
  if ns then
    stamp = { sec = math.floor(ns / 1e9), nsec = math.floor(ns % 1e9) } -- a double: exact to a quarter of a microsecond
  elseif type(given.asctime) == "string" then
    local year, month, day, hour, minute, second, ms = given.asctime:match("^" .. STAMP)
    if year then stamp = loggers.when(year, month, day, hour, minute, second, tonumber(ms) * 1000000) end
  end
  if type(given.filename) == "string" then r.source = given.filename .. ":" .. (whole(given.lineno) or "0") end
  r.pid = whole(given.process)
  for i = 1, #TAKEN do
    local value = given[TAKEN[i]]
    if type(value) == "string" and value ~= "" then r[TAKEN[i]] = redact.short(value) end
  end
  local actor = type(given.actor_name) == "string" and given.actor_name or ""
  local application, deployment, replica = actor:match("^SERVE_REPLICA::(.-)#(.+)#([^#]+)$")
  if application then
    r.application, r.deployment, r.replica = application, deployment, replica
    learn(application, deployment)
  elseif file.serve and not file.fields.replica then
    if type(given.deployment) == "string" then
      r.application, r.deployment = split(given.deployment)
    elseif type(given.application) == "string" and given.application ~= "" then
      r.application = given.application
    end
  elseif type(given.deployment) == "string" and file.serve and as_in_file(given.deployment) == (file.fields.application or "") .. "_" .. file.fields.deployment then
    r.application, r.deployment = split(given.deployment)
  end
  if type(given.exc_text) == "string" then message = (message or "") .. "\n" .. given.exc_text end
  return message, stamp
end

-- Ray's event files
local function event_json(r, given)
  set_level(r, given.severity)
  local time = tonumber(given.timestamp)
  if type(given.custom_fields) == "table" then
    for name, value in pairs(given.custom_fields) do
      if given[name] == nil and type(value) ~= "table" then given[name] = value end
    end
  end
  r.pid = whole(given.source_pid)
  if type(given.source_type) == "string" then r.source = given.source_type end
  local message = given.message
  given.severity, given.timestamp, given.custom_fields, given.source_type, given.source_pid, given.message = nil, nil, nil, nil, nil, nil
  given.source_hostname, given.event_id = nil, nil
  return message, time and { sec = math.floor(time), nsec = 0 }
end

-- JSON that an application prints. An id of ours in it is taken if it has that id's form.
local HEXADECIMAL = { trace_id = 32, span_id = 16 }
local function printed_json(r, file, given)
  local message, stamp, level, level_name = loggers.json(given)
  r.level, r.level_name = level, level_name
  if not level and file.fields.stream == "stderr" then r.level = "UNKNOWN" end
  if type(given.request_id) == "string" then
    r.request_id, given.request_id = redact.short(given.request_id), nil
  end
  for name, length in pairs(HEXADECIMAL) do
    local value = given[name]
    if type(value) == "string" and #value == length and value:find("^%x+$") then r[name], given[name] = value:lower(), nil end
  end
  if given.job_id == file.fields.job_id then given.job_id = nil end -- Ray's own, from its logging_config
  return message or false, stamp
end

-- A truncated JSON line is not valid JSON; its first keys still identify it.
local function cut_json(r, raw)
  r.truncated = true
  local level = raw:match('"levelname": "(%u+)"')
  if level then set_level(r, level) end
  r.request_id = raw:match('"request_id": "([^"]+)"')
  local year, month, day, hour, minute, second, ms = raw:match('^{"asctime": "' .. STAMP)
  local message = raw:match('"message": "(.*)$') or raw
  return message, year and loggers.when(year, month, day, hour, minute, second, tonumber(ms) * 1000000)
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Fields from the message

-- [client ]METHOD route status 1.2ms | CALL method OK 1.2ms | /pkg.Service/Method application CODE 1.2ms
local METHODS = { GET = true, POST = true, PUT = true, PATCH = true, DELETE = true, HEAD = true, OPTIONS = true, CONNECT = true,
                  TRACE = true, CALL = true, WS = true, WEBSOCKET = true }
local function access(r, message)
  local client
  local method, route, status, ms = message:match("^(%u+) (%S*) (%S+) ([%d%.]+)ms$")
  if not method then method, route, status, ms = message:match("^(/%S+) (%S*) (%S+) ([%d%.]+)ms$") end
  if not method then client, method, route, status, ms = message:match("^(%S+:%d+) ([%u/]%S*) (%S*) (%S+) ([%d%.]+)ms$") end
  if not method or not (METHODS[method] or method:byte() == 47) then return end
  -- three digits of HTTP, four of a websocket's close, or a word
  if not (status:find("^%d%d%d%d?$") or status:find("^%u[%u_]+$")) then return end
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

-- ---------------------------------------------------------------------------------------------------------------------
-- What Fluent Bit calls. The result is its code: -1 drops the record, 1 replaces time and record.

local function text_of(given, raw, file, r)
  if raw:sub(-1) == "\n" then raw = raw:sub(1, -2) end
  local level, year, month, day, hour, minute, second, ms, rest = raw:match(SERVE_TEXT)
  local message, stamp = false, nil
  if level then
    message, stamp = serve_text(r, file, level, loggers.when(year, month, day, hour, minute, second, tonumber(ms) * 1000000), rest)
  end
  if message == false then
    year, month, day, hour, minute, second, ms, rest = raw:match(RAY_TEXT)
    if year then
      message, stamp = ray_text(r, file, rest, loggers.when(year, month, day, hour, minute, second, tonumber(ms) * 1000000))
    elseif #raw > MAX_MESSAGE and raw:sub(1, 2) == '{"' then
      message, stamp = cut_json(r, raw)
    end
  end
  if message == false then return plain(r, file, raw) end
  return message, stamp
end

local function read(given, file, raw)
  local r, stamp, message, known = {}, nil, nil, nil
  if file.haproxy then
    message, stamp = haproxy(r, raw, given)
  elseif next(given) == nil then
    message, stamp = text_of(given, raw, file, r)
  elseif not file.serve and raw:find("__ray_tqdm_magic_token__", 1, true) then
    return nil
  else
    if given.levelname ~= nil and (file.serve or file.ray) then
      message, stamp = ray_json(r, file, given)
      known = READ
      if file.ray then given.component = nil end -- a C++ program names itself
    elseif file.ray and type(given.severity) == "string" and type(given.message) == "string" then
      message, stamp = event_json(r, given)
    else
      message, stamp = printed_json(r, file, given)
    end
    local safe = fields.add(r, given, known)
    if message == false then message = safe or raw end -- it has no message: the line itself
  end
  if message == nil then return nil end
  if not message:find("%S") and raw:find("%S") then message = raw end -- never an empty line

  for name, value in pairs(file.fields) do
    if r[name] == nil then r[name] = value end
  end
  r.level = r.level or "INFO"
  r.severity_number = SEVERITY[r.level] or 0
  if #message > MAX_MESSAGE then r.truncated = true end
  message = fields.clean(message, MAX_MESSAGE)
  if message:sub(-2) == "ms" then access(r, message) end
  if file.serve then -- events count from Serve's logger only
    if r.component == "serve_controller" then
      controller(r, message)
    elseif r.level == "WARNING" and message:find("^Request dropped due to backpressure") then
      r.event = "backpressure"
    end
  end
  if message:find(TRACEBACK, 1, true) then r.exception = true end
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
  return r, stamp
end

-- A record that could not be read stands alone: marked, with its text redacted, and its neighbours as they are.
local function unread(raw, file)
  local r = { level = "UNKNOWN", severity_number = 0, unread = true }
  for name, value in pairs(file.fields) do r[name] = value end
  local ok, message = pcall(function() return redact.text(fields.clean(raw, MAX_MESSAGE)) end)
  r.message = ok and message or "a record that could not be read"
  return r
end

local HAPROXY = { haproxy = true, fields = { component = "haproxy", node = NODE } } -- by syslog, from no file

local function protected(given)
  local raw, path = given[LINE], given[FILE]
  given[LINE], given[FILE] = nil, nil
  local file = path and of_path(path) or HAPROXY
  if not path then raw = given.log end
  local ok, r, stamp = pcall(read, given, file, raw)
  if ok then return r, stamp end
  return unread(raw, file)
end

function ray(tag, time, given)
  local r, stamp = protected(given)
  if not r then return -1, time, given end
  return 1, stamp or time, r
end

-- For Loki: the labels stay at the top level, the rest goes into one map that becomes structured metadata, as text.
local TOP = { message = true, level = true, component = true, application = true, deployment = true, node = true }
local NOT_SENT = { severity_number = true }
local loki_names, loki_names_count = {}, 0

local function loki_name(name)
  local known = loki_names[name]
  if known then return known end
  if loki_names_count > 4096 then loki_names, loki_names_count = {}, 0 end
  known = name:gsub("[^%w_]", "_"):gsub("^(%d)", "_%1")
  if known == "" then known = "_" end
  loki_names[name] = known
  loki_names_count = loki_names_count + 1
  return known
end

function loki(tag, time, given)
  local r, stamp = protected(given)
  if not r then return -1, time, given end
  local out, meta = {}, {}
  for name, value in pairs(r) do
    if TOP[name] then
      out[name] = value
    elseif not NOT_SENT[name] then
      if type(value) == "number" then
        value = string.format(value == math.floor(value) and math.abs(value) < 2 ^ 53 and "%d" or "%.14g", value)
      end
      meta[loki_name(name)] = type(value) == "string" and value or tostring(value)
    end
  end
  out.event = r.event -- for the metrics made from it
  out.meta = meta
  return 1, stamp or time, out
end
