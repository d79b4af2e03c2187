"""The state store on Redis (or Valkey): plain commands and the scripts in `mr/adapters/redis/lua`."""

from mr.adapters.redis.store import RedisStore

__all__ = ["RedisStore"]
