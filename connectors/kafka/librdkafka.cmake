# Which librdkafka: the target busbar_rdkafka.
#
# One before 2.4 is linked statically, where that can be done, so that the linker can mend it: kafka_timers.c says what
# and why. What it needs itself comes with Debian's librdkafka1, as shared libraries without their -dev packages.
pkg_check_modules(RDKAFKA REQUIRED IMPORTED_TARGET rdkafka)
add_library(busbar_rdkafka INTERFACE)

set(rdkafka_parts)
foreach(part librdkafka.a liblz4.so.1 libzstd.so.1 libsasl2.so.2 libssl.so.3 libcrypto.so.3 libz.so.1)
  find_library(PATH_OF_${part} ${part} HINTS ${RDKAFKA_LIBDIR})
  mark_as_advanced(PATH_OF_${part})
  list(APPEND rdkafka_parts ${PATH_OF_${part}})
endforeach()

if(RDKAFKA_VERSION VERSION_LESS 2.4 AND NOT rdkafka_parts MATCHES NOTFOUND)
  list(POP_FRONT rdkafka_parts rdkafka_archive)
  add_library(busbar_rdkafka_timers STATIC connectors/kafka/kafka_timers.c)
  target_link_libraries(busbar_rdkafka INTERFACE ${rdkafka_archive} busbar_rdkafka_timers ${rdkafka_parts} m)
  # Exported, so that librdkafka's plugins (plugin.library.paths) find what they call.
  target_link_options(busbar_rdkafka INTERFACE LINKER:--wrap=rd_kafka_timers_next
    LINKER:--export-dynamic-symbol=rd_kafka_*)
  target_compile_definitions(busbar_rdkafka INTERFACE BUSBAR_KAFKA_TIMERS)
else()
  message(STATUS "librdkafka ${RDKAFKA_VERSION} is linked as it is")
  target_link_libraries(busbar_rdkafka INTERFACE PkgConfig::RDKAFKA)
endif()
