"""The state store on Redis (or Valkey): plain commands and the scripts in `mr/adapters/redis/lua`."""
