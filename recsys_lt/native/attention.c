/* Causal attention of packed rows: each event to those of its row up to itself, and to the row's pads.

   All pads of a row share one key and one value (the projections' biases), so they are one more key whose score has
   the log of their number added. Dropout of the weights: a query's key number j takes slot j of its stream; its pads
   take the last slots, and their common weight is multiplied by the share of them that survive. */
#include <math.h>

#include "random.h"

typedef struct {
    const float *query;        /* [queries, heads * depth] */
    const float *key_value;    /* [events, 2 * heads * depth]: keys, then values */
    const float *pad;          /* [2 * heads * depth]: key and value of a pad */
    const int64_t *offsets;    /* [rows + 1] */
    const int64_t *streams;    /* [queries], or NULL for no dropout */
    int64_t rows, heads, depth, slots;
    int64_t last;              /* whether a row's last event alone asks: query r of row r */
    int64_t salt;
    int cut;
    float scale;
} Attention;

static inline float dot(const float *a, const float *b, int64_t d) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < d; c++) sum += a[c] * b[c];
    return sum;
}

static inline void add(float *to, float a, const float *x, int64_t d) {
#pragma omp simd
    for (int64_t c = 0; c < d; c++) to[c] += a * x[c];
}

/* Factors of a query's slots, head after head: real keys' as they are; the pads' last one becomes their mean. */
static void slots_of(const Attention *a, int64_t query, int64_t pads, uint64_t *words, float *factors) {
    int64_t count = a->heads * a->slots;
    if (!a->streams) {
        for (int64_t i = 0; i < count; i++) factors[i] = 1.0f;
        return;
    }
    factors_of((uint64_t)(a->streams[query] ^ a->salt), count, a->cut, a->scale, words, factors);
    if (pads == 0) return;
    for (int64_t h = 0; h < a->heads; h++) {
        float *own = factors + h * a->slots, kept = 0;
#pragma omp simd reduction(+ : kept)
        for (int64_t s = a->slots - pads; s < a->slots; s++) kept += own[s];
        own[a->slots - 1] = kept / (float)pads;
    }
}

/* Softmax over keys 0..count-1 and, at [count], the pads. */
static void weights_of(const Attention *a, const float *q, const float *keys, const float *pad_key, int64_t count,
                       int64_t pads, float *weights) {
    int64_t stride = 2 * a->heads * a->depth;
    float root = 1.0f / sqrtf((float)a->depth);
    float top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < count; j++) {
        weights[j] = root * dot(q, keys + j * stride, a->depth);
        top = fmaxf(top, weights[j]);
    }
    weights[count] = pads ? root * dot(q, pad_key, a->depth) + logf((float)pads) : -INFINITY;
    top = fmaxf(top, weights[count]);
    for (int64_t j = 0; j <= count; j++) sum += weights[j] = expf(weights[j] - top);
    for (int64_t j = 0; j <= count; j++) weights[j] /= sum;
}

void attention(const Attention *a, float *out) {
    int64_t width = a->heads * a->depth, stride = 2 * width;
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t r = 0; r < a->rows; r++) {
        int64_t start = a->offsets[r], length = a->offsets[r + 1] - start, pads = a->slots - length;
        uint64_t words[(a->heads * a->slots + 3) / 4];
        float factors[a->heads * a->slots], weights[length + 1];
        for (int64_t i = a->last ? length - 1 : 0; i < length; i++) {
            int64_t query = a->last ? r : start + i;
            slots_of(a, query, pads, words, factors);
            for (int64_t h = 0; h < a->heads; h++) {
                const float *keys = a->key_value + start * stride + h * a->depth, *values = keys + width;
                const float *pad_key = a->pad + h * a->depth, *own = factors + h * a->slots;
                float *to = out + query * width + h * a->depth;
                weights_of(a, a->query + query * width + h * a->depth, keys, pad_key, i + 1, pads, weights);
                float of_pads = pads ? weights[i + 1] * own[a->slots - 1] : 0.0f;
                for (int64_t c = 0; c < a->depth; c++) to[c] = of_pads * pad_key[width + c];
                for (int64_t j = 0; j <= i; j++) add(to, weights[j] * own[j], values + j * stride, a->depth);
            }
        }
    }
}

/* by_query as query, by_key_value as key_value; by_pad [rows, 2 * heads * depth], a row's part of the pads' gradient. */
void attention_backward(const Attention *a, const float *by_out, float *by_query, float *by_key_value, float *by_pad) {
    int64_t width = a->heads * a->depth, stride = 2 * width;
    float root = 1.0f / sqrtf((float)a->depth);
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t r = 0; r < a->rows; r++) {
        int64_t start = a->offsets[r], length = a->offsets[r + 1] - start, pads = a->slots - length;
        uint64_t words[(a->heads * a->slots + 3) / 4];
        float factors[a->heads * a->slots], weights[length + 1], by_weights[length + 1];
        for (int64_t c = 0; c < length * stride; c++) by_key_value[start * stride + c] = 0;
        for (int64_t c = 0; c < stride; c++) by_pad[r * stride + c] = 0;
        for (int64_t i = a->last ? length - 1 : 0; i < length; i++) {
            int64_t query = a->last ? r : start + i;
            slots_of(a, query, pads, words, factors);
            for (int64_t h = 0; h < a->heads; h++) {
                int64_t at = h * a->depth;
                const float *q = a->query + query * width + at, *by = by_out + query * width + at;
                const float *keys = a->key_value + start * stride + at, *values = keys + width;
                const float *pad_key = a->pad + at, *own = factors + h * a->slots;
                float *by_keys = by_key_value + start * stride + at, *by_values = by_keys + width;
                float *by_pad_key = by_pad + r * stride + at, *by_q = by_query + query * width + at;
                weights_of(a, q, keys, pad_key, i + 1, pads, weights);
                float mean = 0;
                for (int64_t j = 0; j <= i; j++) {
                    by_weights[j] = own[j] * dot(by, values + j * stride, a->depth);
                    mean += weights[j] * by_weights[j];
                    add(by_values + j * stride, weights[j] * own[j], by, a->depth);
                }
                for (int64_t c = 0; c < a->depth; c++) by_q[c] = 0;
                if (pads) {
                    float factor = own[a->slots - 1], by_weight = factor * dot(by, pad_key + width, a->depth);
                    mean += weights[i + 1] * by_weight;
                    add(by_pad_key + width, weights[i + 1] * factor, by, a->depth);
                    float by_score = root * weights[i + 1] * (by_weight - mean);
                    add(by_q, by_score, pad_key, a->depth);
                    add(by_pad_key, by_score, q, a->depth);
                }
                for (int64_t j = 0; j <= i; j++) {
                    float by_score = root * weights[j] * (by_weights[j] - mean);
                    add(by_q, by_score, keys + j * stride, a->depth);
                    add(by_keys + j * stride, by_score, q, a->depth);
                }
            }
        }
    }
}
