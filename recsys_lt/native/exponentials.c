/* Exponentials of rows of scores and their sums, in one pass over each. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "random.h"

/* exp to about one unit in the last place; 0 below -87, near the end of a float's
   normal range, infinity from 88.38 on (a float's from 88.73); a NaN stays one. Cody and
   Waite's reduction and a polynomial on [-ln 2 / 2, ln 2 / 2] (the coefficients of Cephes' expf): without branches or
   calls, so that the compiler makes vectors of it. */
static inline float exponential(float x) {
    float bounded = x < -87.0f ? -87.0f : x > 88.7f ? 88.7f : x;
    float shifted = bounded * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: what is left after it is an integer */
    float whole = shifted - 12582912.0f;
    float r = bounded - whole * 0.693359375f + whole * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (int32_t)((uint32_t)(bits + 127) << 23); /* the integer stands in the lowest bits of the shifted number */
    float power;
    memcpy(&power, &bits, sizeof power);
    return x < -87.0f ? 0.0f : x > 88.7f ? INFINITY : p * power;
}

/* Rows of x [n, width], `stride` apart, become exp(x - shift); their sums [n] are float sums of stretches, added in
   double. Shifts of 0 if NULL. */
void exp_rows(float *x, int64_t n, int64_t width, int64_t stride, const float *shifts, float *sums) {
#pragma omp parallel for schedule(static) if (n * width > GRAIN)
    for (int64_t i = 0; i < n; i++) {
        float *row = x + i * stride, shift = shifts ? shifts[i] : 0.0f;
        double total = 0;
        for (int64_t start = 0; start < width; start += 512) {
            int64_t stop = start + 512 < width ? start + 512 : width;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t j = start; j < stop; j++) {
                row[j] = exponential(row[j] - shift);
                sum += row[j];
            }
            total += sum;
        }
        sums[i] = (float)total;
    }
}
