/* GELU (with erf) and its gradient, of one exponential an element. */
#include "exponential.h"
#include "random.h"

/* The normal distribution function at x, to 1e-7, and its density. Abramowitz & Stegun 7.1.26: the complement of erf
   is a polynomial times the exponential that the density is made of. */
static inline float normal(float x, float *density) {
    float size = x < 0.0f ? -x : x, t = 1.0f / (1.0f + 0.23164189f * size), power = exponential(-0.5f * x * x);
    float p = 1.061405429f * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    float tail = 0.5f * p * t * power;
    *density = 0.39894228f * power;
    return x > 0.0f ? 1.0f - tail : tail;
}

/* x [n] becomes gelu(x). */
void gelu(float *x, int64_t n) {
#pragma omp parallel for simd schedule(static) if (n > GRAIN)
    for (int64_t i = 0; i < n; i++) {
        float density;
        x[i] *= normal(x[i], &density);
    }
}

/* by_x [n], the gradient by gelu(x), becomes that by x; x [n] becomes gelu(x). */
void gelu_backward(float *x, float *by_x, int64_t n) {
#pragma omp parallel for simd schedule(static) if (n > GRAIN)
    for (int64_t i = 0; i < n; i++) {
        float density, below = normal(x[i], &density);
        by_x[i] *= below + x[i] * density;
        x[i] *= below;
    }
}
