#include "platform/stub/filter.h"
#include <gtest/gtest.h>
TEST(X, X) {}
