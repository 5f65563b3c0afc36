// goclient subscribes to an event stream as a user of HashiCorp's own Go client does, and tells what it got.
//
// Standard output has one JSON object a line: {"Batch": …} for each line of the stream, with every event decoded into the
// client's own types, and at last {"End": …}. The test runs it against a Nomad agent and against a mirror and compares.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/nomad/api"
)

type event struct {
	Index      uint64
	Topic      api.Topic
	Type       string
	Key        string
	FilterKeys []string
	Decoded    any    // what the topic's own method made of the payload
	Error      string `json:",omitempty"`
}

type batch struct {
	Index  uint64
	Events []event
}

// end says how it was over: refused (Stream failed), ended (the stream did), or why this program cancelled it.
type end struct {
	How        string
	Status     int    `json:",omitempty"`
	Error      string `json:",omitempty"`
	Heartbeats int64  // as the client's own IsHeartbeat tells them; it never hands them on
	CloseMs    int64  // from the cancellation until the channel was closed
	Leaked     int    // goroutines that the client left behind
}

// topicList collects -topic Job, -topic Job:web … as Stream wants them.
type topicList map[api.Topic][]string

func (t topicList) String() string { return fmt.Sprint(map[api.Topic][]string(t)) }

func (t topicList) Set(word string) error {
	topic, key, hasKey := strings.Cut(word, ":")
	keys := t[api.Topic(topic)]
	if hasKey {
		keys = append(keys, key)
	}
	t[api.Topic(topic)] = keys
	return nil
}

// heartbeatCounter reads along: Stream drops heartbeats before anybody sees them.
type heartbeatCounter struct {
	http.RoundTripper
	count atomic.Int64
}

func (c *heartbeatCounter) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := c.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	body := &countedBody{ReadCloser: response.Body, text: response.Body, counter: c}
	if response.Header.Get("Content-Encoding") == "gzip" { // the client asks for it, and Nomad does it
		if body.text, err = gzip.NewReader(response.Body); err != nil {
			return nil, err
		}
		response.Header.Del("Content-Encoding")
	}
	response.Body = body
	return response, nil
}

type countedBody struct {
	io.ReadCloser
	text    io.Reader
	counter *heartbeatCounter
	line    []byte
}

func (b *countedBody) Read(into []byte) (int, error) {
	count, err := b.text.Read(into)
	b.line = append(b.line, into[:count]...)
	for {
		line, rest, whole := bytes.Cut(b.line, []byte("\n"))
		if !whole {
			return count, err
		}
		var events api.Events
		if json.Unmarshal(line, &events) == nil && events.IsHeartbeat() {
			b.counter.count.Add(1)
		}
		b.line = append([]byte(nil), rest...)
	}
}

// decode calls the method that the client has for the event's topic.
func decode(e *api.Event) (any, error) {
	switch e.Topic {
	case api.TopicDeployment:
		return e.Deployment()
	case api.TopicEvaluation:
		return e.Evaluation()
	case api.TopicAllocation:
		return e.Allocation()
	case api.TopicJob:
		return e.Job()
	case api.TopicNode:
		return e.Node()
	case api.TopicNodePool:
		return e.NodePool()
	case api.TopicService:
		return e.Service()
	}
	return e.Payload, nil
}

func decodeAll(events *api.Events) batch {
	told := batch{Index: events.Index}
	for _, e := range events.Events {
		decoded, err := decode(&e)
		one := event{e.Index, e.Topic, e.Type, e.Key, e.FilterKeys, decoded, ""}
		if err != nil {
			one.Error = err.Error()
		}
		told.Events = append(told.Events, one)
	}
	return told
}

type settings struct {
	config api.Config
	query  api.QueryOptions
	topics topicList
	index  uint64
	events int
	quiet  time.Duration
	limit  time.Duration
}

func parse() *settings {
	s := &settings{topics: topicList{}}
	flag.StringVar(&s.config.Address, "address", "", "of the agent or the mirror")
	flag.StringVar(&s.config.SecretID, "token", "", "goes into X-Nomad-Token")
	flag.StringVar(&s.query.Namespace, "namespace", "", "")
	flag.StringVar(&s.query.Region, "region", "", "")
	flag.BoolVar(&s.query.AllowStale, "stale", false, "")
	flag.Var(s.topics, "topic", "Topic or Topic:key, repeatable")
	flag.Uint64Var(&s.index, "index", 0, "")
	flag.IntVar(&s.events, "events", 0, "cancel after so many")
	flag.DurationVar(&s.quiet, "quiet", time.Hour, "cancel when no event came for so long")
	flag.DurationVar(&s.limit, "for", time.Hour, "cancel after so long")
	flag.Parse()
	return s
}

// read prints batches until the stream ends or a reason to cancel comes, and returns that; "" at an end of the stream.
func (s *settings) read(stream <-chan *api.Events, out *json.Encoder, asked <-chan os.Signal) (string, error) {
	const looks = 20 // a machine that stands still for seconds makes one of them late: that is no silence
	over := time.After(s.limit)
	for count, left := 0, looks; ; {
		select {
		case events, open := <-stream:
			if !open {
				return "", errors.New("closed without an error")
			}
			if events.Err != nil {
				return "", events.Err
			}
			if err := out.Encode(map[string]batch{"Batch": decodeAll(events)}); err != nil {
				return "", err
			}
			left = looks
			if count += len(events.Events); s.events > 0 && count >= s.events {
				return "events", nil
			}
		case <-time.After(s.quiet / looks):
			if left--; left == 0 {
				return "quiet", nil
			}
		case <-over:
			return "time", nil
		case <-asked:
			return "asked", nil
		}
	}
}

// cancelled waits until the client has let go of everything: its channel, its connection, its goroutines.
func cancelled(stream <-chan *api.Events, client *api.Client, before int) (closeMs int64, leaked int) {
	began := time.Now()
	for range stream {
	}
	closeMs = time.Since(began).Milliseconds()
	client.Close()
	for wait := 0; wait < 200; wait++ {
		if leaked = runtime.NumGoroutine() - before; leaked <= 0 {
			return closeMs, 0
		}
		time.Sleep(10 * time.Millisecond)
	}
	return closeMs, leaked
}

func (s *settings) run(out *json.Encoder) (result end) {
	counter := &heartbeatCounter{RoundTripper: http.DefaultTransport.(*http.Transport).Clone()}
	s.config.HttpClient = &http.Client{Transport: counter}
	client, err := api.NewClient(&s.config)
	if err != nil {
		return end{How: "unusable", Error: err.Error()}
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	before := runtime.NumGoroutine()

	stream, err := client.EventStream().Stream(ctx, s.topics, s.index, &s.query)
	if err != nil {
		result = end{How: "refused", Error: err.Error()}
		var unexpected api.UnexpectedResponseError
		if errors.As(err, &unexpected) {
			result.Status, result.Error = unexpected.StatusCode(), unexpected.Body()
		}
		return result
	}
	result.How, err = s.read(stream, out, asked)
	if err != nil {
		result.How, result.Error = "ended", err.Error()
	}
	cancel()
	result.CloseMs, result.Leaked = cancelled(stream, client, before)
	result.Heartbeats = counter.count.Load()
	return result
}

func main() {
	settings := parse()
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(map[string]end{"End": settings.run(out)}); err != nil {
		fmt.Fprintln(os.Stderr, "goclient:", err)
		os.Exit(1)
	}
}
