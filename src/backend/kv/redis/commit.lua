-- Makes the changes of a transaction. Returns their version, or 0 if a key is not as expected.
-- KEYS: the versions; the key that is expected, or the versions again; keys to set; keys to delete.
-- ARGV: the expected version, "0" for no such key, "" for no expectation; the expected value; how many keys
-- to set; their values; the list that changes with each commit, or ""; patterns of keys to delete.
local versions, count = KEYS[1], tonumber(ARGV[3])
if ARGV[1] ~= '' then
  local value = call('GET', KEYS[2])
  if not value then
    if ARGV[1] ~= '0' then return 0 end
  elseif value ~= ARGV[2] or (call('HGET', versions, KEYS[2]) or '1') ~= ARGV[1] then
    return 0
  end
end
-- What an error ends is not undone. So what may fail comes before the first change.
if redis.acl_check_cmd then
  for _, command in ipairs({{'SET', KEYS[2], ''}, {'DEL', KEYS[2]}, {'HSET', versions, '', ''}, {'HDEL', versions, ''}}) do
    if not redis.acl_check_cmd(unpack(command)) then
      return redis.error_reply('NOPERM this user has no permission to run the command ' .. command[1])
    end
  end
end
local gone = {}
local list = ARGV[4 + count]
for i = 5 + count, #ARGV do
  local cursor = '0'
  repeat
    local page = redis.call('SCAN', cursor, 'MATCH', ARGV[i], 'COUNT', 1000)
    cursor = page[1]
    for _, key in ipairs(page[2]) do gone[#gone + 1] = key end
  until cursor == '0'
end
for i = 3 + count, #KEYS do gone[#gone + 1] = KEYS[i] end
local version = call('HINCRBY', versions, '', 1)
if list ~= '' and call('RPUSH', list, version) > 1 then call('LPOP', list) end
for i = 1, count do
  local key, value = KEYS[2 + i], ARGV[3 + i]
  -- Traefik reads everything again for each key that is set.
  if redis.pcall('GET', key) ~= value then call('SET', key, value) end
  call('HSET', versions, key, version)
end
for _, key in ipairs(gone) do
  call('DEL', key)
  call('HDEL', versions, key)
end
return version
