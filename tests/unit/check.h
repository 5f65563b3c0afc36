/* check.h - cmocka with the headers it wants, in the order it wants them. */
#ifndef BUSBAR_TESTS_CHECK_H
#define BUSBAR_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
