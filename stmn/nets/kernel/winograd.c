/* The two transforms of a Winograd convolution F(4x4, 3x3) (Lavin and Gray, CVPR 2016); the products between them are a
 * batched matrix product of the caller's.
 *
 * Pictures are (N, H, W, C), dense; C is a multiple of 8. A tile is 6 x 6 of the input, whose corner lies one row and
 * one column outside its 4 x 4 of the output; what lies outside the picture is zero. Tiles count along a row, then down,
 * then to the next picture. */

#include <stdint.h>

enum { IN = 6, OUT = 4, WIDTH = 8, MOST = 4096 };

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef int32_t bits __attribute__((vector_size(4 * WIDTH)));
typedef float loose __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

static const float zeros[MOST];

static inline vec get(const float *p) { return *(const loose *)p; }
static inline void put(float *p, vec v) { *(loose *)p = v; }

/* B^T d along one axis: of six values at a distance of `step` */
static inline __attribute__((always_inline)) void forward(const vec *d, vec *v, int step) {
  vec a = d[4 * step] - 4.0f * d[2 * step], b = d[3 * step] - 4.0f * d[step];
  vec c = d[4 * step] - d[2 * step], e = 2.0f * (d[3 * step] - d[step]);
  v[0] = 4.0f * d[0] - 5.0f * d[2 * step] + d[4 * step];
  v[step] = a + b;
  v[2 * step] = a - b;
  v[3 * step] = c + e;
  v[4 * step] = c - e;
  v[5 * step] = 4.0f * d[step] - 5.0f * d[3 * step] + d[5 * step];
}

/* A^T m along one axis: four values of six */
static inline __attribute__((always_inline)) void backward(const vec *m, int from, vec *y, int to) {
  vec a = m[from] + m[2 * from], b = m[from] - m[2 * from];
  vec c = m[3 * from] + m[4 * from], d = m[3 * from] - m[4 * from];
  y[0] = m[0] + a + c;
  y[to] = b + 2.0f * d;
  y[2 * to] = a + 4.0f * c;
  y[3 * to] = b + 8.0f * d + m[5 * from];
}

/* Tiles first ... first + count - 1 of `x` into v[36][plane], tile t at row t - base of C values. */
void tiles_in(const float *x, float *v, int64_t height, int64_t width, int64_t channels, int64_t first, int64_t count,
              int64_t base, int64_t plane) {
  const int64_t down = (height + OUT - 1) / OUT, across = (width + OUT - 1) / OUT;
  for (int64_t t = first; t < first + count; t++) {
    const int64_t n = t / (down * across), top = t / across % down * OUT - 1, left = t % across * OUT - 1;
    const float *from[IN * IN];
    for (int64_t i = 0; i < IN; i++)
      for (int64_t j = 0; j < IN; j++) {
        const int64_t row = top + i, column = left + j;
        const int inside = row >= 0 && row < height && column >= 0 && column < width;
        from[i * IN + j] = inside ? x + ((n * height + row) * width + column) * channels : zeros;
      }
    float *to = v + (t - base) * channels;
    for (int64_t c = 0; c < channels; c += WIDTH) {
      vec d[IN * IN], e[IN * IN];
      for (int k = 0; k < IN * IN; k++) d[k] = get(from[k] + c);
      for (int k = 0; k < IN; k++) forward(d + k, e + k, IN);
      for (int k = 0; k < IN; k++) forward(e + k * IN, d + k * IN, 1);
      for (int k = 0; k < IN * IN; k++) put(to + k * plane + c, d[k]);
    }
  }
}

/* The way back: m[36][plane] into tiles of `y`, plus `bias`; below zero is zero where `relu` says so. */
void tiles_out(const float *m, float *y, const float *bias, int64_t relu, int64_t height, int64_t width,
               int64_t channels, int64_t first, int64_t count, int64_t base, int64_t plane) {
  const int64_t down = (height + OUT - 1) / OUT, across = (width + OUT - 1) / OUT;
  for (int64_t t = first; t < first + count; t++) {
    const int64_t n = t / (down * across), top = t / across % down * OUT, left = t % across * OUT;
    const int64_t rows = height - top < OUT ? height - top : OUT, columns = width - left < OUT ? width - left : OUT;
    const float *from = m + (t - base) * channels;
    float *to = y + ((n * height + top) * width + left) * channels;
    for (int64_t c = 0; c < channels; c += WIDTH) {
      vec d[IN * IN], e[OUT * IN], f[OUT * OUT];
      const vec b = get(bias + c);
      for (int k = 0; k < IN * IN; k++) d[k] = get(from + k * plane + c);
      for (int k = 0; k < IN; k++) backward(d + k, IN, e + k, IN);
      for (int k = 0; k < OUT; k++) backward(e + k * IN, 1, f + k * OUT, 1);
      for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
          vec value = f[i * OUT + j] + b;
          if (relu) value = (vec)(~(value < 0.0f) & (bits)value); /* NaN stays NaN */
          put(to + (i * width + j) * channels + c, value);
        }
    }
  }
}
