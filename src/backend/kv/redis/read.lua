-- All texts whose keys match a pattern, as {key, value, version}.
local entries, cursor = {}, '0'
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000, 'TYPE', 'string')
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    local value = call('GET', key)
    if value then
      entries[#entries + 1] = {key, value, call('HGET', KEYS[1], key) or '1'}
    end
  end
until cursor == '0'
return entries
