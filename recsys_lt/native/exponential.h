/* The exponential function of vectors of floats. */
#ifndef RECSYS_LT_EXPONENTIAL_H
#define RECSYS_LT_EXPONENTIAL_H
#include <math.h>
#include <stdint.h>
#include <string.h>

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
#endif
