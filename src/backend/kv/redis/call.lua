-- Runs a command. The error of one that fails names the key.
local function call(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) == 'table' and answer.err then
    error({err = string.gsub(answer.err .. ' (key ' .. key .. ')', '%c+', ' ')})
  end
  return answer
end
