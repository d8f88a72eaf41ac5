#pragma once

#include <gtest/gtest.h>
#include <torch/types.h>

/// Fails unless `actual` has the shape and type of `expected` and |actual - expected| <= atol +
/// rtol * |expected| everywhere; reports the worst element. NaN fails, and so does an `expected`
/// that is zero everywhere, with which a broken computation would agree.
void expect_near(const torch::Tensor& actual, const torch::Tensor& expected, double rtol,
                 double atol);

/// Fails unless both have the same shape, type and bits.
void expect_same_bits(const torch::Tensor& actual, const torch::Tensor& expected);
