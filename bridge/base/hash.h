/* hash.h - CRC-32C for what lies on disk, a 64-bit hash for identities. */
#ifndef BUSBAR_BASE_HASH_H
#define BUSBAR_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli; RFC 3720, appendix B.4). Start with 0; feed the result back to go on. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* FNV-1a with 64 bits (Fowler, Noll, Vo). Stored in checkpoints: never change it. Start with
 * HASH64_START. */
#define HASH64_START UINT64_C(0xcbf29ce484222325)
uint64_t hash64(uint64_t hash, const void *data, size_t len);
/* The same over a number's bytes, the lowest first. */
uint64_t hash64_u32(uint64_t hash, uint32_t value);
uint64_t hash64_u64(uint64_t hash, uint64_t value);

/* 64 random bits from the kernel. */
uint64_t hash_random(void);

#endif
