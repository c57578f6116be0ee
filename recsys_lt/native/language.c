/* What a language model does between its products, in bfloat16: each one pass over memory. Sums are floats. */
#include <math.h>
#include <string.h>

#include "exponential.h"
#include "random.h"

typedef uint16_t bfloat;

static inline float wide(bfloat x) {
    uint32_t bits = (uint32_t)x << 16;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

/* To the nearest, of two equally near the even one; a NaN stays one. */
static inline bfloat narrow(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t near = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    return (bfloat)((bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC0u : near);
}

static inline float rounded(float x) { return wide(narrow(x)); }

/* Rows x [n, d] over their root mean square, times weight [d]; what they were multiplied by, [n]. */
void rms_norm(const bfloat *x, const bfloat *weight, int64_t n, int64_t d, float eps, bfloat *out, float *inverse) {
#pragma omp parallel for schedule(static) if (n * d > GRAIN)
    for (int64_t i = 0; i < n; i++) {
        const bfloat *row = x + i * d;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < d; c++) sum += wide(row[c]) * wide(row[c]);
        float by = 1.0f / sqrtf(sum / (float)d + eps);
        inverse[i] = by;
        for (int64_t c = 0; c < d; c++) out[i * d + c] = narrow(rounded(wide(row[c]) * by) * wide(weight[c]));
    }
}

void rms_norm_backward(const bfloat *x, const bfloat *weight, const float *inverse, const bfloat *by_out, int64_t n,
                       int64_t d, bfloat *by_x) {
#pragma omp parallel for schedule(static) if (n * d > GRAIN)
    for (int64_t i = 0; i < n; i++) {
        const bfloat *row = x + i * d, *grad = by_out + i * d;
        float sum = 0, by = inverse[i];
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < d; c++) sum += wide(row[c]) * wide(grad[c]) * wide(weight[c]);
        float along = sum * by * by * by / (float)d;
        for (int64_t c = 0; c < d; c++)
            by_x[i * d + c] = narrow(wide(grad[c]) * wide(weight[c]) * by - wide(row[c]) * along);
    }
}

static inline float logistic(float x) { return 1.0f / (1.0f + exponential(-x)); }

/* gate * sigmoid(gate) * up, of n numbers. */
void gated(const bfloat *gate, const bfloat *up, int64_t n, bfloat *out) {
#pragma omp parallel for simd schedule(static) if (n > GRAIN)
    for (int64_t i = 0; i < n; i++) {
        float x = wide(gate[i]);
        out[i] = narrow(rounded(x * logistic(x)) * wide(up[i]));
    }
}

void gated_backward(const bfloat *gate, const bfloat *up, const bfloat *by_out, int64_t n, bfloat *by_gate,
                    bfloat *by_up) {
#pragma omp parallel for simd schedule(static) if (n > GRAIN)
    for (int64_t i = 0; i < n; i++) {
        float x = wide(gate[i]), grad = wide(by_out[i]), s = logistic(x);
        by_up[i] = narrow(grad * rounded(x * s));
        by_gate[i] = narrow(rounded(grad * wide(up[i])) * s * (1.0f + x * (1.0f - s)));
    }
}

/* out = factor * x, plus `to` unless that is NULL, for x and to [n, d] and one key for each of the n: see dropout.c. */
void dropout_bfloat(const bfloat *x, const bfloat *to, const int64_t *keys, int64_t n, int64_t d, int64_t salt,
                    int cut, float scale, bfloat *out) {
#pragma omp parallel for schedule(static) if (n * d > GRAIN)
    for (int64_t i = 0; i < n; i++)
        for (int64_t first = 0; first < d; first += STRETCH) {
            int64_t count = first + STRETCH < d ? STRETCH : d - first, at = i * d + first;
            float factors[STRETCH];
            factors_of((uint64_t)(keys[i] ^ salt), first, count, cut, scale, factors);
            if (to)
                for (int64_t c = 0; c < count; c++)
                    out[at + c] = narrow(wide(to[at + c]) + wide(x[at + c]) * factors[c]);
            else
                for (int64_t c = 0; c < count; c++) out[at + c] = narrow(wide(x[at + c]) * factors[c]);
        }
}
