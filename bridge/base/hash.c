/* hash.c - CRC-32C by the processor's own instruction where it has one, by a table elsewhere. */
#include "bridge/base/hash.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

/* The crc32 instruction gives a result every cycle but takes three: three lanes side by side keep
 * it busy. */
#define LANE ((size_t)1024)

/* x^(8·LANE-33) and x^(16·LANE-33) modulo the polynomial, bits reflected: a carry-less product with
 * them, reduced by the crc32 instruction, moves a CRC over one and two lanes (Gopal et al., "Fast
 * CRC Computation for iSCSI Polynomial Using CRC32 Instruction", 2011). */
static const uint64_t over_one = UINT64_C(0x170076fa), over_two = UINT64_C(0xa51b6135);

__attribute__((target("sse4.2,pclmul"))) static uint64_t moved(uint64_t crc, uint64_t over)
{
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc),
                                           _mm_cvtsi64_si128((long long)over), 0);
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

static uint64_t word_at(const unsigned char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t
crc32c_sse(uint32_t crc, const unsigned char *p, size_t len)
{
    uint64_t a = crc;
    for (; len >= 3 * LANE; len -= 3 * LANE, p += 3 * LANE) {
        uint64_t b = 0, c = 0;
        for (size_t i = 0; i < LANE; i += 8) {
            a = _mm_crc32_u64(a, word_at(p + i));
            b = _mm_crc32_u64(b, word_at(p + LANE + i));
            c = _mm_crc32_u64(c, word_at(p + 2 * LANE + i));
        }
        a = moved(a, over_two) ^ moved(b, over_one) ^ c;
    }
    for (; len >= 8; len -= 8, p += 8)
        a = _mm_crc32_u64(a, word_at(p));
    crc = (uint32_t)a;
    for (; len > 0; len--, p++)
        crc = _mm_crc32_u8(crc, *p);
    return crc;
}

#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    crc = ~crc;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"))
        return ~crc32c_sse(crc, data, len);
#endif
    return ~crc32c_table(crc, data, len);
}

#define PRIME UINT64_C(0x100000001b3)

uint64_t hash64(uint64_t hash, const void *data, size_t len)
{
    const unsigned char *p = data;
    for (; len > 0; len--, p++) {
        hash ^= *p;
        hash *= PRIME;
    }
    return hash;
}

/* A byte of 0 only multiplies, so the upper ones of a small number are one step. */
static uint64_t hash64_number(uint64_t hash, uint64_t value, size_t bytes)
{
    static const uint64_t power[] = {1,
                                     PRIME,
                                     PRIME * PRIME,
                                     PRIME * PRIME * PRIME,
                                     PRIME * PRIME * PRIME * PRIME,
                                     PRIME * PRIME * PRIME * PRIME * PRIME,
                                     PRIME * PRIME * PRIME * PRIME * PRIME * PRIME,
                                     PRIME * PRIME * PRIME * PRIME * PRIME * PRIME * PRIME,
                                     PRIME * PRIME * PRIME * PRIME * PRIME * PRIME * PRIME * PRIME};
    for (; value > UINT8_MAX; value >>= 8, bytes--)
        hash = (hash ^ (value & UINT8_MAX)) * PRIME;
    return (hash ^ value) * power[bytes];
}

uint64_t hash64_u32(uint64_t hash, uint32_t value)
{
    return hash64_number(hash, value, sizeof value);
}

uint64_t hash64_u64(uint64_t hash, uint64_t value)
{
    return hash64_number(hash, value, sizeof value);
}

uint64_t hash_random(void)
{
    uint64_t r;
    if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
        abort();
    return r;
}
