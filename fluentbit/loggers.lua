-- What other loggers than Ray's print: the level, the message and the time of a line of text or of JSON.
-- `otel/logs.yaml` does the same in the Collector; tests/fixtures/logs/loggers.yaml holds both to one table.

local M = {}

-- ---------------------------------------------------------------------------------------------------------------------
-- Levels: one vocabulary, in upper case. Every other word or number becomes one of these, and stays as level_name.

local LEVELS = {
  TRACE = "TRACE", FINEST = "TRACE", FINER = "TRACE", TRC = "TRACE",
  DEBUG = "DEBUG", FINE = "DEBUG", VERBOSE = "DEBUG", CONFIG = "DEBUG", DBG = "DEBUG",
  INFO = "INFO", INFORMATION = "INFO", INFORMATIONAL = "INFO", NOTICE = "INFO", SUCCESS = "INFO", DEFAULT = "INFO", INF = "INFO",
  WARNING = "WARNING", WARN = "WARNING", WRN = "WARNING",
  ERROR = "ERROR", ERR = "ERROR", SEVERE = "ERROR",
  CRITICAL = "CRITICAL", CRIT = "CRITICAL", ALERT = "CRITICAL",
  FATAL = "FATAL", FTL = "FATAL", PANIC = "FATAL", DPANIC = "FATAL", EMERGENCY = "FATAL", EMERG = "FATAL",
  UNKNOWN = "UNKNOWN",
}
local LETTERS = { I = "INFO", W = "WARNING", E = "ERROR", C = "CRITICAL", F = "FATAL", D = "DEBUG", T = "TRACE" }
-- Words that need no colon behind them at the start of a line.
local PLAIN = { TRACE = true, DEBUG = true, INFO = true, WARNING = true, WARN = true, ERROR = true, CRITICAL = true, FATAL = true,
                SEVERE = true }
local NAMED = { SUCCESS = true, NOTICE = true }

-- syslog's 0 to 7; bunyan's and pino's 10 to 60
local function of_number(number)
  if number < 8 then
    return number <= 2 and "CRITICAL" or number <= 3 and "ERROR" or number <= 4 and "WARNING" or number <= 6 and "INFO" or "DEBUG"
  end
  return number < 20 and "TRACE" or number < 30 and "DEBUG" or number < 40 and "INFO" or number < 50 and "WARNING"
         or number < 60 and "ERROR" or "FATAL"
end

-- A level and, where that is another word than the vocabulary has, its own name; nil if the value is none.
function M.level(value)
  local kind = type(value)
  if kind == "number" then return of_number(value) end
  if kind == "table" then return M.level(value.name or value.no) end
  if kind ~= "string" or value == "" then return nil end
  local known = LEVELS[value]
  if known and not NAMED[value] then return known end
  local word = value:upper():match("^%s*(.-)%s*$")
  known = LEVELS[word]
  if known then return known, NAMED[word] and word or nil end
  if LETTERS[word] then return LETTERS[word] end
  local number = tonumber(word:match("^%d+$"))
  if number then return of_number(number) end
  number = tonumber(word:match("^LEVEL (%d+)$")) -- what Python's logging calls a number without a name; it counts from 10, DEBUG
  if number then return of_number(math.max(number, 0) + 10), value:sub(1, 32) end
  return "INFO", value:match("^[%a][%w_ %-]*$") and value:sub(1, 32) -- one of an application's own
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Times

-- Days from 1970-01-01 to a date of the Gregorian calendar.
local function days(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  return 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
         + math.floor((153 * (month - 3) + 2) / 5) + day - 719469
end

local function plausible(seconds) return seconds >= 946684800 and seconds < 4102444800 end -- 2000 to 2100

-- Text has no time zone, it is the local time of Ray's process. os.time reads it in Fluent Bit's own, so give both the
-- same TZ. One lookup per hour of log, since os.time is slow; no zone changes within an hour of its clock.
local hour_key, hour_start
function M.when(year, month, day, hour, minute, second, nanoseconds)
  local key = year .. month .. day .. hour
  if key ~= hour_key then
    hour_start = os.time { year = tonumber(year), month = tonumber(month), day = tonumber(day), hour = tonumber(hour),
                           min = 0, sec = 0 }
    hour_key = key
  end
  if not hour_start then return nil end
  return { sec = hour_start + minute * 60 + second, nsec = nanoseconds }
end

local DATE = "(%d%d%d%d)[%-/](%d%d)[%-/](%d%d)[T ](%d%d):(%d%d):(%d%d)()"

-- The time at the start of a text, and the position behind it.
local function leading_time(text)
  local year, month, day, hour, minute, second, at = text:match("^%[?" .. DATE)
  if not year then return nil, 1 end
  local fraction, after = text:match("^[%.,](%d+)()", at)
  at = after or at
  local nanoseconds = fraction and tonumber((fraction .. "000000000"):sub(1, 9)) or 0
  local sign, hours, minutes
  if text:sub(at, at) == "Z" then
    sign, hours, minutes, at = "+", "0", "0", at + 1
  else
    sign, hours, minutes, after = text:match("^%s?([+-])(%d%d):?(%d%d)%f[^%d]()", at)
    at = after or at
  end
  if not sign then return M.when(year, month, day, hour, minute, second, nanoseconds), at end
  local seconds = days(tonumber(year), tonumber(month), tonumber(day)) * 86400 + hour * 3600 + minute * 60 + second
  local offset = hours * 3600 + minutes * 60
  return { sec = seconds - (sign == "+" and offset or -offset), nsec = nanoseconds }, at
end

-- A time in ISO 8601, or a number of seconds, milliseconds, microseconds or nanoseconds; nil if it is none.
function M.time(value)
  if type(value) == "table" then
    if type(value.timestamp) == "number" then return M.time(value.timestamp) end
    if type(value.seconds) == "number" and plausible(value.seconds) then
      return { sec = value.seconds, nsec = tonumber(value.nanos) or 0 }
    end
    return M.time(value.repr)
  end
  local number = tonumber(value)
  if number then
    local factor = number > 1e17 and 1e9 or number > 1e14 and 1e6 or number > 1e11 and 1e3 or 1
    local seconds = math.floor(number / factor)
    if not plausible(seconds) then return nil end
    return { sec = seconds, nsec = math.floor((number - seconds * factor) * (1e9 / factor)) }
  end
  if type(value) ~= "string" then return nil end
  local stamp = leading_time(value)
  return stamp and plausible(stamp.sec) and stamp or nil
end

-- ---------------------------------------------------------------------------------------------------------------------
-- A printed line of text

-- The level word among the first ones of a text; only in upper case, since a message may contain others.
local function among_first(text)
  local left = 8
  for word in text:sub(1, 120):gmatch("[%w_]+") do
    local level = LEVELS[word]
    if level then return level, NAMED[word] and word or nil end
    left = left - 1
    if left == 0 then return nil end
  end
end

-- Level and time that a printed text begins with, as far as it has them.
function M.head(text)
  local first = text:sub(1, 300):match("^[^\n]*")
  if first:find("\27", 1, true) then first = first:gsub("\27%[[%d;]*m", "") end
  if first:sub(1, 1) == "(" then first = first:gsub("^%([^()]- pid=%d+[^()]*%) ", "", 1) end -- vLLM's and Ray's
  local stamp, at = leading_time(first)
  local value = first:match("%f[%w]level=\"?(%w+)") or first:match("%f[%w]lvl=\"?(%w+)") or first:match("%f[%w]severity=\"?(%w+)")
  if value then -- logfmt
    local quoted = first:match("%f[%w]time=\"?([%d%-T:%.Z+/]+)") or first:match("%f[%w]ts=\"?([%d%-T:%.Z+/]+)")
    local level, name = M.level(value)
    return level, stamp or M.time(quoted), name
  end
  if at > 1 then
    local rest = first:sub(at)
    local bracket = rest:match("^%s*%[(%a+)%s*%]") -- structlog's, in lower case
    if bracket and LEVELS[bracket:upper()] then
      local level, name = M.level(bracket)
      return level, stamp, name
    end
    local letter = rest:match("^:? ([IWEFD]) ") -- TensorFlow's
    if letter then return LETTERS[letter], stamp end
    local level, name = among_first(rest)
    return level, stamp, name
  end
  local letter = first:match("^%[?([IWEFDC])%d%d%d%d%d* %d%d:%d%d:%d%d") -- glog's, absl's, PyTorch's
  if letter then return LETTERS[letter] end
  local word, after = first:match("^([%u]+)([:%s|%-%](,]?)")
  local level = word and LEVELS[word]
  if level and after ~= "" and (PLAIN[word] or after == ":" or first:find("^%u+%s*[:|%-%[]")) then
    return level, (leading_time(first:sub(#word + 2))), NAMED[word] and word or nil
  end
  word = first:match("^(%l+): ")
  level = word and LEVELS[word:upper()]
  if level then return level end
  if first:find("^%d%d:%d%d:%d%d") or first:find("^%d+ %[") then return among_first(first) end -- Java's
  for inner in first:sub(1, 80):gmatch("%[%s*(%u+)%s*%]") do
    if LEVELS[inner] then return LEVELS[inner], nil, NAMED[inner] and inner or nil end
  end
  if first:find(":%d+: %a*Warning: ") then return "WARNING" end -- Python's warnings
  return nil
end

-- The text as a terminal shows it: of a line that was written several times, what was written last.
function M.last_written(text)
  if not text:find("\r", 1, true) then return text end
  text = text:gsub("\r+\n", "\n"):gsub("\r+$", "")
  return (text:gsub("[^\n]*\r", ""))
end

-- ---------------------------------------------------------------------------------------------------------------------
-- A printed line of JSON

local LEVEL_KEYS = { "level", "levelname", "severity", "severity_text", "log.level", "loglevel", "log_level", "lvl",
                     "level_name", "severityText" }
local MESSAGE_KEYS = { "message", "msg", "event", "text", "body", "short_message" }
local TIME_KEYS = { "timestamp", "time", "ts", "@timestamp", "asctime", "timestamp_ns", "datetime" }
local TRACEBACK_KEYS = { "exception", "exc_info", "exc_text", "stack_trace", "stacktrace", "error.stack_trace", "stack" }

-- Takes level, message and time of a record out of its keys, and returns them; nil for what it does not have.
function M.json(r)
  local level, level_name, message, stamp
  local inner = type(r.record) == "table" and r.record -- loguru's
  if inner and type(inner.level) == "table" and type(r.text) == "string" then
    level, level_name = M.level(inner.level)
    stamp = M.time(inner.time)
    message = type(inner.exception) == "table" and r.text:gsub("%s+$", "") or inner.message
    if type(message) ~= "string" then message = nil end
    inner.level, inner.time, inner.message, r.text = nil, nil, nil, nil
    return message, stamp, level, level_name
  end
  for i = 1, #LEVEL_KEYS do
    local value = r[LEVEL_KEYS[i]]
    if value ~= nil then
      level, level_name = M.level(value)
      if level then
        r[LEVEL_KEYS[i]] = nil
        break
      end
    end
  end
  for i = 1, #MESSAGE_KEYS do
    local value = r[MESSAGE_KEYS[i]]
    if type(value) == "string" and value:find("%S") then
      message = value
      r[MESSAGE_KEYS[i]] = nil
      break
    end
  end
  for i = 1, #TIME_KEYS do
    stamp = M.time(r[TIME_KEYS[i]])
    if stamp then
      r[TIME_KEYS[i]] = nil
      break
    end
  end
  if message then
    local failed = type(r.err) == "table" and r.err or type(r.error) == "table" and r.error or nil -- pino's, ECS'
    for i = 1, #TRACEBACK_KEYS do
      local key = TRACEBACK_KEYS[i]
      local value, of = r[key], r
      if value == nil and failed then value, of = failed[key], failed end
      if type(value) == "string" and value:find("\n", 1, true) then
        message = message .. "\n" .. value
        of[key] = nil
      end
    end
  end
  return message, stamp, level, level_name
end

return M
