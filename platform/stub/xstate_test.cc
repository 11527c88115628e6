#include "platform/stub/xstate.h"
#include <gtest/gtest.h>
TEST(X, X) {}
