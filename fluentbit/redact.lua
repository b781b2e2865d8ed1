-- Secrets that must not leave the node: a list of {gate, pattern, replacement}, applied in this order to the message of every
-- record and to every text in its fields, at any depth. The gate is a plain lower-case text that must occur before the
-- pattern is tried, so that an ordinary line costs a few searches. `otel/logs.yaml` has the same list in RE2; one table
-- of cases (tests/fixtures/logs/redaction.yaml) tests both. RAY_LOGS_REDACT=off disables it.
local MARK = "[redacted]"
local VALUE = "[^%s\"',;&)}%]]+"
-- between a name and its value: `name=`, `"name": "`, and JSON inside of JSON, `\"name\": \"`
local TO_VALUE = "\\*[\"']?%s*[=:]%s*"
local QUOTE = "\\*[bB]?[\"']?"

local function any_case(word)
  return (word:gsub("%a", function(c) return "[" .. c:upper() .. c .. "]" end):gsub("%-", "%%-"))
end

-- The position before the quote that ends a text: quotes inside of it have one more backslash.
local function before_quote(text, from, backslashes, quote)
  local at = from
  while true do
    at = text:find(quote, at, true)
    if not at then return #text end
    local before = #text:sub(from, at - 1):match("\\*$")
    if before == backslashes or backslashes == 0 and before % 2 == 0 then return at - 1 - backslashes end
    at = at + 1
  end
end

-- Each value that follows a name: up to the end of its quotes or brackets, else to white space, a quote or a separator.
local function hide(text, name)
  local parts, from = {}, 1
  while true do
    local _, last = text:find(name, from)
    if not last then break end
    local backslashes, quote, start = text:match("^(\\*)[bB]?([\"'])()", last + 1)
    local stop
    if quote then
      stop = before_quote(text, start, #backslashes, quote)
    else
      start = last + 1
      local bracket = text:match("^[%[{(]", start)
      local _, closed = text:find(bracket == "[" and "^%b[]" or bracket == "{" and "^%b{}" or bracket == "(" and "^%b()" or "^" .. VALUE, start)
      stop = closed or bracket and #text or start - 1
    end
    local value = text:sub(start, stop)
    if value == "" or value == MARK or value:find("^%a+%s+%[redacted%]$") or value:find("^%a+$") and text:find("^%s+%[redacted%]", stop + 1) then
      parts[#parts + 1] = text:sub(from, stop)
    else
      parts[#parts + 1] = text:sub(from, start - 1) .. MARK
    end
    from = math.max(stop, last) + 1
  end
  return table.concat(parts) .. text:sub(from)
end

local AUTHORIZATION = any_case("authorization")
local rules = {
  -- with and without a scheme, and as a pair of a list: [b'authorization', b'Basic ...']
  { "authorization", "(" .. AUTHORIZATION .. TO_VALUE .. QUOTE .. "%a+%s+)" .. VALUE, "%1" .. MARK },
  { "authorization", AUTHORIZATION .. TO_VALUE, hide },
  { "bearer ", "([Bb][Ee][Aa][Rr][Ee][Rr]%s+)[%w%-%._~%+/=]+", "%1" .. MARK },
  { "basic ", "([Bb][Aa][Ss][Ii][Cc]%s+)[%w%+/]+==?", "%1" .. MARK },
  { "cookie", "([Cc]ookie" .. TO_VALUE .. QUOTE .. ")[^\"'\r\n]+", "%1" .. MARK },
  -- scheme://user:password@host; the last @ before the path ends the password
  { "://", "(://[^%s/:@]*:)[^%s/]+@", "%1" .. MARK .. "@" },
  { "private key", "(%-%-%-%-%-BEGIN [%u ]*PRIVATE KEY[%u ]*%-%-%-%-%-).-(%-%-%-%-%-END [%u ]*PRIVATE KEY[%u ]*%-%-%-%-%-)", "%1" .. MARK .. "%2" },
  -- its end was cut
  { "private key", "(%-%-%-%-%-BEGIN [%u ]*PRIVATE KEY[%u ]*%-%-%-%-%-)[^%[].*$", "%1" .. MARK },
  -- a JSON Web Token
  { "eyj", "eyJ[%w_%-]+%.[%w_%-]+%.[%w_%-]*", MARK },
  -- keys with a known prefix: AWS, GitHub, GitLab, Google, Hugging Face, Slack, Stripe, OpenAI and Anthropic
  { "akia", "AKIA" .. ("%w"):rep(16), MARK },
  { "asia", "ASIA" .. ("%w"):rep(16), MARK },
  { "github_pat_", "github_pat_[%w_]+", MARK },
  { "glpat-", "glpat%-[%w_%-]+", MARK },
  { "aiza", "AIza" .. ("[%w_%-]"):rep(35), MARK },
  { "hf_", "%f[%w]hf_" .. ("%w"):rep(20) .. "%w*", MARK },
  { "xox", "xox[abeprs]%-[%w%-]+", MARK },
  { "hooks.slack.com", "(hooks%.slack%.com/services/)[%w/]+", "%1" .. MARK },
  { "k_live_", "[sr]k_live_%w+", MARK },
  { "sk-", "%f[%w]sk%-" .. ("[%w_%-]"):rep(16) .. "[%w_%-]*", MARK },
  { "pwd", "(%f[%w][Pp][Ww][Dd]%s*=%s*)[^/%s\"',;&)}%]][^%s\"',;&)}%]]*", "%1" .. MARK },
}

-- `password=...`, `"api_key": "..."`, `--token ...` and the like: the word may end a longer name (db_password); a value in
-- quotes ends at the quote, another one at white space, a quote or a separator.
for kind in ("pousr"):gmatch(".") do
  rules[#rules + 1] = { "gh" .. kind .. "_", "gh" .. kind .. "_" .. ("%w"):rep(20) .. "%w*", MARK } -- GitHub
end

local WORDS = { "password", "passwd", "passphrase", "secret", "token", "api_key", "apikey", "api-key", "access_key",
                "accesskey", "private_key", "privatekey", "secret_key", "secretkey", "signing_key", "encryption_key",
                "accountkey", "account_key", "amz-signature", "credential" }

for _, word in ipairs(WORDS) do
  local plural = word == "token" and "" or "[sS]?" -- "tokens: 17" is a count
  rules[#rules + 1] = { word, any_case(word) .. plural .. TO_VALUE, hide }
  rules[#rules + 1] = { word, "(%-%-[%w_%-]*" .. any_case(word) .. "[\"']?,?%s+[\"']?)" .. VALUE, "%1" .. MARK }
end

-- a name and its value as a pair: ["x-api-key", "..."], {"name": "DB_PASSWORD", "value": "..."}
for _, word in ipairs { "authorization", "cookie", unpack(WORDS) } do
  local name = "[%w_%-]*" .. any_case(word) .. "\\*[\"']%s*,%s*"
  rules[#rules + 1] = { word, "[%[(]%s*" .. QUOTE .. name, hide }
  rules[#rules + 1] = { word, name .. "\\*[\"'][vV]alue" .. TO_VALUE, hide }
  rules[#rules + 1] = { word, "([vV]alue\\*[\"']%s*[=:]%s*\\*[\"'])[^\"'\\]+(\\*[\"']%s*,%s*\\*[\"']%a+\\*[\"']%s*[=:]%s*\\*[\"'][%w_.-]*"
                             .. any_case(word) .. ")", "%1" .. MARK .. "%2" }
end

local M = {}

-- The rules by their gates, and these by what they have in common, so that an ordinary text is searched for few words.
local COMMON = { "key", "_" }
local groups, by_gate = {}, {}
local function group_of(gate)
  for _, common in ipairs(COMMON) do
    if gate:find(common, 1, true) then return common end
  end
  return gate
end
for _, rule in ipairs(rules) do
  local gate, common = rule[1], group_of(rule[1])
  if not groups[common] then
    groups[common] = {}
    groups[#groups + 1] = common
  end
  if not by_gate[gate] then
    by_gate[gate] = {}
    table.insert(groups[common], gate)
  end
  table.insert(by_gate[gate], rule)
end

local function without(text, lower, gates)
  for _, gate in ipairs(gates) do
    if lower:find(gate, 1, true) then
      for _, rule in ipairs(by_gate[gate]) do
        if rule[3] == hide then text = hide(text, rule[2]) else text = text:gsub(rule[2], rule[3]) end
      end
    end
  end
  return text
end

-- The text without its secrets.
function M.text(text)
  local lower = text:lower()
  for i = 1, #groups do
    if lower:find(groups[i], 1, true) then text = without(text, lower, groups[groups[i]]) end
  end
  return text
end

-- The same for a short text that comes again and again: a route, a name, an id.
local short, short_count = {}, 0
function M.short(text)
  local size = #text
  if size < 6 then return text end
  if size == 36 and text:byte(9) == 45 and text:byte(14) == 45 and text:byte(24) == 45 then return text end -- a UUID
  if size > 100 then return M.text(text) end
  local known = short[text]
  if known then return known end
  if short_count > 4096 then short, short_count = {}, 0 end
  known = M.text(text)
  short[text] = known
  short_count = short_count + 1
  return known
end

local ENDS, names, names_count = {}, {}, 0
for _, word in ipairs(WORDS) do
  ENDS[#ENDS + 1] = word
  if word ~= "token" then ENDS[#ENDS + 1] = word .. "s" end
end
local WHOLE = { authorization = true, cookie = true, ["set-cookie"] = true, ["set_cookie"] = true, pwd = true, passwd = true,
                ["proxy-authorization"] = true, proxy_authorization = true }

-- Whether a field of this name is a secret, whatever its value; such a field is dropped.
function M.secret_name(name)
  local known = names[name]
  if known ~= nil then return known end
  local lower = name:lower()
  known = WHOLE[lower] or false
  for i = 1, #ENDS do
    if lower:sub(-#ENDS[i]) == ENDS[i] then known = true end
  end
  if names_count > 4096 then names, names_count = {}, 0 end
  names[name] = known
  names_count = names_count + 1
  return known
end

if os.getenv("RAY_LOGS_REDACT") == "off" then
  function M.text(text) return text end
  M.short = M.text
  function M.secret_name() return false end
end

return M
