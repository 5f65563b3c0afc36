// deploy-notifier posts each status that a Nomad deployment takes to a webhook, in the shape of Slack's incoming webhooks.
//
// It follows the event stream of Busbar, or of Nomad itself, with HashiCorp's own Go client. After each post it notes in a
// file what was posted and where in the stream that was; started again it goes on from there and posts nothing twice. The
// order post, note, next makes one repeat possible: when it is killed after a post was taken and before that is noted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/nomad/api"
)

// errUnwritable ends the program: to go on without notes would repeat every post after the next start.
var errUnwritable = errors.New("the state file can't be written")

type notifier struct {
	client  *api.Client
	state   *state
	webhook *webhook
	start   uint64 // where to begin in the stream when the state file doesn't say
	ui      string // of Nomad, for links; may be empty
}

// follow reads one connection until it ends.
func (n *notifier) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	index := n.start
	if n.state.Index > 0 {
		index = n.state.Index // this one is sent again: a crash may have come in its middle
	}
	topics := map[api.Topic][]string{api.TopicDeployment: {"*"}}
	stream, err := n.client.EventStream().Stream(ctx, topics, index, &api.QueryOptions{})
	if err != nil {
		return err
	}
	for events := range stream {
		if events.Err != nil {
			return events.Err
		}
		for i := range events.Events {
			if err := n.handle(ctx, &events.Events[i]); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// handle posts the event's deployment if its status is news.
func (n *notifier) handle(ctx context.Context, event *api.Event) error {
	deployment, err := event.Deployment()
	if err != nil || deployment == nil {
		log.Printf("index %d has a deployment that can't be read, left out: %v", event.Index, err)
		return nil
	}
	if !n.state.isNews(deployment, event.Index) {
		n.state.Index = event.Index
		return nil
	}
	// Any receiver that knows this header can drop the one possible repeat by it. Slack doesn't.
	key := fmt.Sprintf("%s/%s/%d", deployment.ID, deployment.Status, event.Index)
	if err := n.webhook.post(ctx, message(deployment, n.ui), key); err != nil {
		return err
	}
	log.Printf("posted: %s version %d %s", deployment.JobID, deployment.JobVersion, deployment.Status)
	n.state.note(deployment, event.Index)
	return n.state.save()
}

const leastPause, mostPause = 250 * time.Millisecond, 30 * time.Second

// run follows the stream until ctx is done, connecting again whenever it ends: the client doesn't do that by itself.
func (n *notifier) run(ctx context.Context) error {
	pause := leastPause
	for {
		before, began := n.state.Index, time.Now()
		err := n.follow(ctx)
		if ctx.Err() != nil || errors.Is(err, errUnwritable) {
			return err
		}
		if n.state.Index != before || time.Since(began) > mostPause {
			pause = leastPause
		}
		log.Printf("the stream ended: %v; connecting again in %s", err, pause)
		sleep(ctx, pause)
		pause = min(2*pause, mostPause)
	}
}

// sleep is over early when ctx is done.
func sleep(ctx context.Context, how time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(how):
	}
}

func fromEnv(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// set makes a notifier of the command line and the environment.
func set() (*notifier, error) {
	path := flag.String("state", fromEnv("STATE_FILE", "deploy-notifier.json"), "the file that remembers what was posted; $STATE_FILE")
	start := flag.String("start", "now", "where the very first start begins: now, or oldest, which posts all that upstream still has")
	ui := flag.String("ui", os.Getenv("NOMAD_UI"), "the address of Nomad's UI, for links; $NOMAD_UI")
	silence := flag.Duration("silence", 90*time.Second, "connect again when nothing came for so long; heartbeats come every 30s")
	flag.Parse()

	index, known := map[string]uint64{"now": beyondAnyIndex, "oldest": 1}[*start]
	if !known || flag.NArg() > 0 {
		return nil, fmt.Errorf("-start %s %v: expected now or oldest, and no more words", *start, flag.Args())
	}
	url := os.Getenv("WEBHOOK_URL")
	if url == "" {
		return nil, errors.New("WEBHOOK_URL is not set (it is a secret, so there is no flag for it)")
	}
	client, err := connect(api.DefaultConfig(), *silence)
	if err != nil {
		return nil, err
	}
	remembered, err := loadState(*path)
	if err != nil {
		return nil, err
	}
	return &notifier{client, remembered, newWebhook(url), index, *ui}, nil
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("deploy-notifier: ")
	n, err := set()
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log.Printf("following the deployments of %s from index %d on", n.client.Address(), n.state.Index)
	if err := n.run(ctx); errors.Is(err, errUnwritable) {
		log.Fatal(err)
	}
	log.Print("stopped")
}
