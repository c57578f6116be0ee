/* GELU by the error function, and its slope, from one exponential.

   With t = 1 / (1 + p x), erfc(x) = (a1 t + ... + a5 t^5) exp(-x^2) to 1.5e-7 for x >= 0 (Abramowitz & Stegun 7.1.26).
   At x = |z| / sqrt 2 that exponential is the normal density's as well. */
#include <math.h>
#include <stdint.h>

/* exp(x) for x <= 0 to float's precision; 0 below -87. */
static inline float power(float x) {
    float y = (x > -87.0f ? x : -87.0f) * 1.44269504f, k = rintf(y), f = (y - k) * 0.693147181f;
    float p = 0.00833333333f + f * 0.00138888889f;
    p = 1 + f * (1 + f * (0.5f + f * (0.166666667f + f * (0.0416666667f + f * p))));
    union { int32_t bits; float value; } scale = {.bits = ((int32_t)k + 127) << 23};
    return x > -87.0f ? p * scale.value : 0.0f;
}

/* The normal distribution at z, and in *density its density. */
static inline float normal(float z, float *density) {
    float e = power(-0.5f * z * z), t = 1 / (1 + 0.3275911f * 0.707106781f * fabsf(z));
    float tail = 0.5f * e * t *
                 (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    *density = 0.398942280f * e;
    return z < 0 ? tail : 1 - tail;
}

/* y = gelu(z), [n]; y may be z. */
void gelu(const float *z, int64_t n, float *y) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float density;
        y[i] = z[i] * normal(z[i], &density);
    }
}

/* y = gelu(z), and by = by * gelu'(z) in place, [n]; y may be z. */
void gelu_backward(const float *z, int64_t n, float *y, float *by) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float at = z[i], density, share = normal(at, &density);
        y[i] = at * share;
        by[i] *= share + at * density;
    }
}
