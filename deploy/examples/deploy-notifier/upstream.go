package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"
)

// beyondAnyIndex as the index of a subscription gets the newest thing there is, then what comes: Nomad has no word for "now".
const beyondAnyIndex = math.MaxInt64

// connect makes a client that reads every namespace unless NOMAD_NAMESPACE names one, and notices when upstream is silent.
func connect(config *api.Config, silence time.Duration) (*api.Client, error) {
	if config.Namespace == "" {
		config.Namespace = "*"
	}
	// What NewClient does where it is left to make the HTTP client itself.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	transport.ForceAttemptHTTP2 = false
	if socket, isSocket := strings.CutPrefix(config.Address, "unix://"); isSocket {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
	}
	if err := api.ConfigureTLS(&http.Client{Transport: transport}, config.TLSConfig); err != nil {
		return nil, err
	}
	config.HttpClient = &http.Client{Transport: &watchful{transport, silence}}
	return api.NewClient(config)
}

// watchful ends an answer that brings nothing for too long. The client skips heartbeats without telling, and a connection
// whose other end is lost would hang for ever: so it has to be seen down here.
type watchful struct {
	http.RoundTripper
	silence time.Duration
}

func (w *watchful) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(request.Context())
	timer := time.AfterFunc(w.silence, func() {
		cancel(fmt.Errorf("nothing came for %s, not even a heartbeat", w.silence))
	})
	response, err := w.RoundTripper.RoundTrip(request.WithContext(ctx))
	timer.Stop()
	if err != nil {
		cause := context.Cause(ctx)
		cancel(nil)
		return nil, errors.Join(err, cause)
	}
	response.Body = &watchedBody{response.Body, ctx, cancel, timer, w.silence, false}
	return response, nil
}

type watchedBody struct {
	io.ReadCloser
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	silence time.Duration
	spoke   bool
}

// Read is watched only while it waits: a webhook that is slow is no silence of upstream's.
func (b *watchedBody) Read(into []byte) (int, error) {
	b.timer.Reset(b.silence)
	count, err := b.ReadCloser.Read(into)
	b.timer.Stop()
	b.spoke = b.spoke || count > 0
	if cause := context.Cause(b.ctx); err != nil && cause != nil {
		err = cause
	}
	if err == io.EOF && !b.spoke {
		err = errors.New("an empty answer: newer Nomads give it to a token that may not read deployments")
	}
	return count, err
}

func (b *watchedBody) Close() error {
	b.timer.Stop()
	b.cancel(nil)
	return b.ReadCloser.Close()
}
