/* kafka_seats.c - what the member of a group knows: which pairs of this process are to publish. */
#include "connectors/kafka/kafka_seats.h"

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    PAUSED_MS = 3000, /* the member's thread runs once a second */
    DOUBT_MS = 1500,  /* from the end of a pause to the answer to the first heartbeat, at most */
    SLICE_MS = 50,
};

void kafka_seats_init(struct kafka_seats *seats)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    *seats = (struct kafka_seats){.trouble = SINK_DONE, .alive_ms = clock_mono_ms()};
    pthread_mutex_init(&seats->lock, NULL);
    pthread_cond_init(&seats->news, &attr);
    pthread_condattr_destroy(&attr);
}

static void seat_free(struct kafka_seat *seat)
{
    free(seat->topic);
    free(seat);
}

void kafka_seats_fini(struct kafka_seats *seats)
{
    while (seats->first != NULL) {
        struct kafka_seat *seat = seats->first;
        seats->first = seat->next;
        seat_free(seat);
    }
    pthread_cond_destroy(&seats->news);
    pthread_mutex_destroy(&seats->lock);
}

static void changed(struct kafka_seats *seats)
{
    seats->changes++;
    seats->changed_ms = clock_mono_ms();
}

/* ---- a pair's thread ---- */

struct kafka_seat *kafka_seats_add(struct kafka_seats *seats, const char *topic)
{
    struct kafka_seat *seat = mem_zalloc(sizeof *seat);
    seat->topic = mem_strdup(topic);
    pthread_mutex_lock(&seats->lock);
    seat->next = seats->first;
    seats->first = seat;
    seats->n++;
    changed(seats);
    pthread_mutex_unlock(&seats->lock);
    return seat;
}

void kafka_seats_remove(struct kafka_seats *seats, struct kafka_seat *seat)
{
    pthread_mutex_lock(&seats->lock);
    struct kafka_seat **at = &seats->first;
    while (*at != seat)
        at = &(*at)->next;
    *at = seat->next;
    seats->n--;
    changed(seats);
    pthread_mutex_unlock(&seats->lock);
    seat_free(seat);
}

static bool is_doubtful(const struct kafka_seats *seats, int64_t now)
{
    return now - seats->alive_ms > PAUSED_MS || now < seats->doubtful_ms;
}

static void look(const struct kafka_seats *seats, const struct kafka_seat *seat,
                 struct kafka_seat_view *view)
{
    *view = (struct kafka_seat_view){
        .turn = seat->turn, .trouble = seats->trouble, .rebalances = seats->rebalances};
    if (!seats->joined || (seat->ours && is_doubtful(seats, clock_mono_ms())))
        view->state = KAFKA_SEAT_UNSURE;
    else
        view->state = seat->ours ? KAFKA_SEAT_OURS : KAFKA_SEAT_OTHERS;
    if (seats->trouble != SINK_DONE)
        view->err = seats->err;
}

static void wait_for_news(struct kafka_seats *seats)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += SLICE_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&seats->news, &seats->lock, &until);
}

void kafka_seats_ask(struct kafka_seats *seats, const struct kafka_seat *seat, int patience_ms,
                     struct stop *stop, struct kafka_seat_view *view)
{
    int64_t end = clock_mono_ms() + patience_ms;
    pthread_mutex_lock(&seats->lock);
    look(seats, seat, view);
    while (view->state == KAFKA_SEAT_UNSURE && view->trouble == SINK_DONE &&
           clock_mono_ms() < end && !stop_requested(stop)) {
        wait_for_news(seats);
        look(seats, seat, view);
    }
    pthread_mutex_unlock(&seats->lock);
}

/* ---- the member's thread ---- */

void kafka_seats_alive(struct kafka_seats *seats)
{
    int64_t now = clock_mono_ms();
    pthread_mutex_lock(&seats->lock);
    if (now - seats->alive_ms > PAUSED_MS)
        seats->doubtful_ms = now + DOUBT_MS;
    seats->alive_ms = now;
    pthread_mutex_unlock(&seats->lock);
}

static struct kafka_seat *find(struct kafka_seats *seats, const char *topic)
{
    struct kafka_seat *seat = seats->first;
    while (seat != NULL && strcmp(seat->topic, topic) != 0)
        seat = seat->next;
    return seat;
}

static void set_ours(struct kafka_seats *seats, const char *topic, bool ours)
{
    pthread_mutex_lock(&seats->lock);
    struct kafka_seat *seat = find(seats, topic);
    if (seat != NULL) {
        seat->turn += ours && !seat->ours;
        seat->ours = ours;
    }
    pthread_cond_broadcast(&seats->news);
    pthread_mutex_unlock(&seats->lock);
}

void kafka_seats_give(struct kafka_seats *seats, const char *topic)
{
    set_ours(seats, topic, true);
}

void kafka_seats_take_back(struct kafka_seats *seats, const char *topic)
{
    set_ours(seats, topic, false);
}

void kafka_seats_set_joined(struct kafka_seats *seats, bool joined)
{
    pthread_mutex_lock(&seats->lock);
    seats->joined = joined;
    seats->rebalances++;
    if (joined)
        seats->trouble = SINK_DONE;
    for (struct kafka_seat *s = seats->first; s != NULL && !joined; s = s->next)
        s->ours = false;
    pthread_cond_broadcast(&seats->news);
    pthread_mutex_unlock(&seats->lock);
}

void kafka_seats_trouble(struct kafka_seats *seats, enum sink_result trouble, const struct err *err)
{
    pthread_mutex_lock(&seats->lock);
    seats->trouble = trouble;
    if (trouble != SINK_DONE)
        seats->err = *err;
    pthread_cond_broadcast(&seats->news);
    pthread_mutex_unlock(&seats->lock);
}
