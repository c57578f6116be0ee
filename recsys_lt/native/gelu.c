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

/* Rows of x [n, width] become gelu(x + bias). */
void gelu(float *x, const float *bias, int64_t n, int64_t width) {
#pragma omp parallel for schedule(static) if (n * width > GRAIN)
    for (int64_t i = 0; i < n; i++) {
        float *row = x + i * width;
#pragma omp simd
        for (int64_t c = 0; c < width; c++) {
            float density, at = row[c] + bias[c];
            row[c] = at * normal(at, &density);
        }
    }
}

/* by_x [n, width], the gradient by gelu(x + bias), becomes that by x; x becomes gelu(x + bias). */
void gelu_backward(float *x, const float *bias, float *by_x, int64_t n, int64_t width) {
#pragma omp parallel for schedule(static) if (n * width > GRAIN)
    for (int64_t i = 0; i < n; i++) {
        float *row = x + i * width, *by = by_x + i * width;
#pragma omp simd
        for (int64_t c = 0; c < width; c++) {
            float density, at = row[c] + bias[c], below = normal(at, &density);
            by[c] *= below + at * density;
            row[c] = at * below;
        }
    }
}
