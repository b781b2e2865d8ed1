-- Secrets that must not leave the node: a list of {gate, pattern, replacement}, applied in this order to the message of every
-- record and to the fields that applications add. The gate is a plain lower-case text that must occur before the
-- pattern is tried, so that an ordinary line costs a few searches. `otel/logs.yaml` has the same list in RE2; one table
-- of cases (tests/fixtures/logs/redaction.yaml) tests both. RAY_LOGS_REDACT=off disables it.
local MARK = "[redacted]"
local VALUE = "[^%s\"',;&%)}%]]+"

local rules = {
  { "authorization", "([Aa][Uu][Tt][Hh][Oo][Rr][Ii][Zz][Aa][Tt][Ii][Oo][Nn][\"']?%s*[:=]%s*[\"']?%a+%s+)" .. VALUE, "%1" .. MARK },
  { "bearer ", "([Bb][Ee][Aa][Rr][Ee][Rr]%s+)[%w%-%._~%+/=]+", "%1" .. MARK },
  { "cookie", "([Cc]ookie[\"']?%s*[:=]%s*)[^\"'\r\n]+", "%1" .. MARK },
  -- scheme://user:password@host
  { "://", "(://[^%s/:@]*:)[^%s/@]+@", "%1" .. MARK .. "@" },
  { "private key-----", "(%-%-%-%-%-BEGIN [%u ]*PRIVATE KEY%-%-%-%-%-).-(%-%-%-%-%-END [%u ]*PRIVATE KEY%-%-%-%-%-)", "%1" .. MARK .. "%2" },
  -- a JSON Web Token
  { "eyj", "eyJ[%w_%-]+%.[%w_%-]+%.[%w_%-]*", MARK },
  -- keys with a known prefix: AWS, GitHub, Hugging Face, Slack, OpenAI and Anthropic
  { "akia", "AKIA" .. ("%w"):rep(16), MARK },
  { "ghp_", "ghp_" .. ("%w"):rep(20) .. "%w*", MARK },
  { "github_pat_", "github_pat_[%w_]+", MARK },
  { "hf_", "%f[%w]hf_" .. ("%w"):rep(20) .. "%w*", MARK },
  { "xox", "xox[abprs]%-[%w%-]+", MARK },
  { "sk-", "%f[%w]sk%-" .. ("[%w_%-]"):rep(16) .. "[%w_%-]*", MARK },
}

-- `password=...`, `"api_key": "..."` and the like: the word may end a longer name (db_password), the value ends at white
-- space, a quote or a separator.
local WORDS = { "password", "passwd", "secret", "token", "api_key", "apikey", "api-key", "access_key", "private_key",
                "credential" }

local function any_case(word)
  return (word:gsub("%a", function(c) return "[" .. c:upper() .. c .. "]" end):gsub("%-", "%%-"))
end

for _, word in ipairs(WORDS) do
  rules[#rules + 1] = { word, "(" .. any_case(word) .. "[\"']?%s*[=:]%s*[\"']?)" .. VALUE, "%1" .. MARK }
end

local M = {}

-- The text without its secrets.
function M.text(text)
  local lower = text:lower()
  for i = 1, #rules do
    local rule = rules[i]
    if lower:find(rule[1], 1, true) then text = text:gsub(rule[2], rule[3]) end
  end
  return text
end

-- Whether a field of this name is a secret, whatever its value; such a field is dropped.
function M.secret_name(name)
  name = name:lower()
  for i = 1, #WORDS do
    if name:sub(-#WORDS[i]) == WORDS[i] then return true end
  end
  return name == "authorization" or name == "cookie"
end

if os.getenv("RAY_LOGS_REDACT") == "off" then
  function M.text(text) return text end
  function M.secret_name() return false end
end

return M
