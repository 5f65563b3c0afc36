/* redis_script.h - what runs inside Redis: Lua 5.1, on Redis 5 and newer. The arguments of each
 * script are told at its head. */
#ifndef BUSBAR_REDIS_SCRIPT_H
#define BUSBAR_REDIS_SCRIPT_H

/* How many arguments of redis_script_publish stand before its first stream, and how many make up
 * one event. */
enum { REDIS_PUBLISH_FIXED_ARGS = 7, REDIS_PUBLISH_EVENT_ARGS = 8 };

extern const char redis_script_claim[];
extern const char redis_script_keep[];
extern const char redis_script_publish[];
extern const char redis_script_check[];
extern const char redis_script_move[];

#endif
