/* mirror.h - the HTTP mirror: every event to every consumer that asks, without asking the source.
 *
 * GET /events (SSE), /v1/event/stream (as a Nomad), /healthz, /readyz, /metrics, /status. One
 * thread of its own does all of it; see README.md. */
#ifndef BUSBAR_MIRROR_H
#define BUSBAR_MIRROR_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/err.h"
#include "bridge/bridge.h"
#include "config/settings.h"

struct mirror_settings {
    const char *listen;
    const char *token;           /* NULL: none */
    const char *tls_certificate; /* PEM files; both or none */
    const char *tls_key;
    bool allow_anonymous;
    int64_t max_clients;
    uint64_t client_buffer;
    uint64_t shared_buffer;
    int64_t heartbeat_ms;
    int64_t client_timeout_ms;
    int64_t client_lag_ms; /* 0: any */
    struct setting_list allow_origin;
    struct setting_list redact; /* see redact_path.h */
    int64_t max_subscribers;    /* -1: as many as by default, mirror_subscribers_max */
    int64_t callback_give_up_ms;
};

extern const struct setting mirror_rows[];

/* Checks across rows, after settings_apply filled `settings` from `node`; reads the certificate and
 * its key. */
void mirror_check(struct settings *file, const struct settings_node *node,
                  const struct mirror_settings *settings);

/* How many callbacks there may be: where nothing is said of it, 32, and none where anybody on the
 * network may ask for them. */
size_t mirror_subscribers_max(const struct mirror_settings *settings);

struct mirror;

/* Binds, and serves from then on in a thread of its own. Before the bridge starts: it sets
 * bridge_on_news. `settings` and `bridge` outlive the mirror. ERR_FATAL where it can't listen,
 * ERR_INPUT for paths that mirror_check would have refused. */
int mirror_open(struct mirror **out, const struct mirror_settings *settings,
                const char *bridge_name, struct bridge *bridge, struct err *err);
/* Where it listens: IP:PORT with the real port. */
const char *mirror_address(const struct mirror *mirror);
/* Ends all streams. Before the bridge closes its journals. NULL inside is fine. */
void mirror_close(struct mirror **mirror);

#endif
