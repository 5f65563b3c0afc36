/* hash.c - CRC-32C by the processor's own instruction where it has one, by a table elsewhere. */
#include "bridge/base/hash.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static uint32_t crc32c_table(uint32_t crc, const unsigned char *p, size_t len)
{
    /* Half-byte table: 16 entries of the reflected polynomial 0x82f63b78. */
    static const uint32_t nibble[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
        0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };
    for (; len > 0; len--, p++) {
        crc = nibble[(crc ^ *p) & 15] ^ (crc >> 4);
        crc = nibble[(crc ^ (uint32_t)(*p >> 4)) & 15] ^ (crc >> 4);
    }
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse(uint32_t crc, const unsigned char *p,
                                                             size_t len)
{
    uint64_t wide = crc;
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    for (; len > 0; len--, p++)
        crc = __builtin_ia32_crc32qi(crc, *p);
    return crc;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    crc = ~crc;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return ~crc32c_sse(crc, data, len);
#endif
    return ~crc32c_table(crc, data, len);
}

uint64_t hash64(uint64_t hash, const void *data, size_t len)
{
    const unsigned char *p = data;
    for (; len > 0; len--, p++) {
        hash ^= *p;
        hash *= UINT64_C(0x100000001b3);
    }
    return hash;
}

uint64_t hash_random(void)
{
    uint64_t r;
    if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
        abort();
    return r;
}
