/* Random streams keyed by what they are for: the very numbers of recsys_lt/streams.py (splitmix64). */
#ifndef RECSYS_LT_RANDOM_H
#define RECSYS_LT_RANDOM_H
#include <stdint.h>

#define GOLDEN 0x9E3779B97F4A7C15ULL
/* Elements whose factors are made at a time: what is on the stack doesn't grow with a row. A multiple of 4. */
#define STRETCH 256
/* Below so many elements a team of threads costs more than it saves; and a forked child, which has no team, isn't
   hung by a small call. PyTorch's own operations do the same. */
#define GRAIN 32768

typedef int16_t __attribute__((may_alias)) lane;

static inline uint64_t scramble(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    return x ^ (x >> 31);
}

/* The stream's words number `first` to `first + count - 1`, counted from 0. */
static inline void words_of(uint64_t key, int64_t first, int64_t count, uint64_t *out) {
    for (int64_t c = 0; c < count; c++) out[c] = scramble(key + (uint64_t)(first + c + 1) * GOLDEN);
}

/* Which of the elements number `first` (a multiple of 4) to `first + count - 1` survive, as factors 0 or `scale`; count
   is at most STRETCH. Four 16-bit lanes come of one word, the lowest first. */
static inline void factors_of(uint64_t key, int64_t first, int64_t count, int cut, float scale, float *factors) {
    uint64_t words[STRETCH / 4];
    words_of(key, first / 4, (count + 3) / 4, words);
    const lane *lanes = (const lane *)words;
    for (int64_t i = 0; i < count; i++) factors[i] = lanes[i] >= cut - 32768 ? scale : 0.0f;
}
#endif
