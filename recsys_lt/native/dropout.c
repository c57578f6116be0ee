/* Dropout whose mask is made where it is used: it is never stored, and the backward pass makes it again. */
#include "random.h"

/* out = factor * x where gate > 0, else 0, for x and gate [n, d] and one key for each of the n; no gate if NULL.
   Gated by itself, x is rectified. */
void dropout(const float *x, const float *gate, const int64_t *keys, int64_t n, int64_t d, int64_t salt, int cut,
             float scale, float *out) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        uint64_t words[(d + 3) / 4];
        float factors[d];
        factors_of((uint64_t)(keys[i] ^ salt), d, cut, scale, words, factors);
        const float *from = x + i * d;
        float *to = out + i * d;
        if (gate)
            for (int64_t c = 0; c < d; c++) to[c] = gate[i * d + c] > 0 ? from[c] * factors[c] : 0.0f;
        else
            for (int64_t c = 0; c < d; c++) to[c] = from[c] * factors[c];
    }
}
