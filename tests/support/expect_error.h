#pragma once

#include <gtest/gtest.h>

#include <string>

#include "efficientad/core/error.h"

/// Fails unless `statement` throws Exception (efficientad::Error or what derives from it) whose
/// message holds `part`.
#define EXPECT_ERROR(statement, Exception, part)                                    \
  do {                                                                              \
    try {                                                                           \
      statement;                                                                    \
      ADD_FAILURE() << "no error; expected one with: " << (part);                   \
    } catch (const Exception& error) {                                              \
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos)            \
          << "message: " << error.what();                                           \
    } catch (const std::exception& error) {                                         \
      ADD_FAILURE() << "another kind of exception, with message: " << error.what(); \
    }                                                                               \
  } while (false)
