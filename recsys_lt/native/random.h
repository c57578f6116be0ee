/* Random streams keyed by what they are for: the very numbers of recsys_lt/streams.py (splitmix64). */
#ifndef RECSYS_LT_RANDOM_H
#define RECSYS_LT_RANDOM_H
#include <stdint.h>

#define GOLDEN 0x9E3779B97F4A7C15ULL

typedef int16_t __attribute__((may_alias)) lane;

static inline uint64_t scramble(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    return x ^ (x >> 31);
}

/* The stream's words number 1 to `count`. */
static inline void words_of(uint64_t key, int64_t count, uint64_t *out) {
    for (int64_t c = 0; c < count; c++) out[c] = scramble(key + (uint64_t)(c + 1) * GOLDEN);
}

/* Which of `count` elements survive, as factors 0 or `scale`; `words` has room for (count + 3) / 4.
   Four 16-bit lanes come of one word, the lowest first. */
static inline void factors_of(uint64_t key, int64_t count, int cut, float scale, uint64_t *words, float *factors) {
    words_of(key, (count + 3) / 4, words);
    const lane *lanes = (const lane *)words;
    for (int64_t i = 0; i < count; i++) factors[i] = lanes[i] >= cut - 32768 ? scale : 0.0f;
}
#endif
