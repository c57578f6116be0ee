/* Dropout whose mask is made where it is used: it is never stored, and the backward pass makes it again. */
#include <stddef.h>

#include "random.h"

/* out = factor * x, but 0 where gate <= 0, for x and gate [n, d] and one key for each of the n; no gate if NULL.
   Gated by itself, x is rectified (a NaN stays one). */
void dropout(const float *x, const float *gate, const int64_t *keys, int64_t n, int64_t d, int64_t salt, int cut,
             float scale, float *out) {
#pragma omp parallel for schedule(static) if (n * d > GRAIN)
    for (int64_t i = 0; i < n; i++)
        for (int64_t first = 0; first < d; first += STRETCH) {
            int64_t count = first + STRETCH < d ? STRETCH : d - first, at = i * d + first;
            float factors[STRETCH];
            factors_of((uint64_t)(keys[i] ^ salt), first, count, cut, scale, factors);
            if (gate)
                for (int64_t c = 0; c < count; c++) out[at + c] = gate[at + c] <= 0 ? 0.0f : x[at + c] * factors[c];
            else
                for (int64_t c = 0; c < count; c++) out[at + c] = x[at + c] * factors[c];
        }
}
