package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
)

// line is one of the stream, with one deployment.
func line(index uint64, id, status string) string {
	const form = `{"Events":[{"Index":%d,"Topic":"Deployment","Type":"T","Key":%q,"Payload":{"Deployment":` +
		`{"ID":%q,"JobID":"web","Namespace":"default","JobVersion":3,"Status":%q}}}],"Index":%d}`
	return fmt.Sprintf(form, index, id, id, status, index)
}

// upstream tells its scripts, one a connection, the last one again and again; it keeps the queries.
type upstream struct {
	*httptest.Server
	mutex   sync.Mutex
	scripts [][]string
	queries []string
}

func newUpstream(t *testing.T, scripts ...[]string) *upstream {
	u := &upstream{scripts: scripts}
	u.Server = httptest.NewServer(u)
	t.Cleanup(func() { u.CloseClientConnections(); u.Close() })
	return u
}

func (u *upstream) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	u.mutex.Lock()
	script := u.scripts[0]
	u.scripts = u.scripts[min(1, len(u.scripts)-1):]
	u.queries = append(u.queries, request.URL.RawQuery)
	u.mutex.Unlock()
	for _, text := range script {
		if text == hold {
			answer.(http.Flusher).Flush()
			<-request.Context().Done()
			return
		}
		io.WriteString(answer, text+"\n")
	}
}

const hold = "hold"

// hook is the webhook: it answers the statuses in turn, the last one again and again, and keeps what it took.
type hook struct {
	*httptest.Server
	mutex    sync.Mutex
	statuses []int
	taken    []string
	asked    []time.Time
}

func newHook(t *testing.T, statuses ...int) *hook {
	h := &hook{statuses: append(statuses, 200)}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *hook) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.asked = append(h.asked, time.Now())
	status := h.statuses[0]
	h.statuses = h.statuses[min(1, len(h.statuses)-1):]
	if status == http.StatusTooManyRequests {
		answer.Header().Set("Retry-After", "1")
	}
	answer.WriteHeader(status)
	if status == 200 {
		var message struct{ Text string }
		_ = json.NewDecoder(request.Body).Decode(&message)
		h.taken = append(h.taken, strings.Trim(message.Text[strings.LastIndex(message.Text, " "):], " *"))
	}
}

func (h *hook) wait(t *testing.T, count int) []string {
	t.Helper()
	for range 500 {
		h.mutex.Lock()
		taken := slices.Clone(h.taken)
		h.mutex.Unlock()
		if len(taken) >= count {
			return taken
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not %d posts: %v", count, h.taken)
	return nil
}

// run starts a notifier on the file; the function that it returns stops it.
func run(t *testing.T, u *upstream, h *hook, path string, silence time.Duration) (stop func()) {
	t.Helper()
	client, err := connect(&api.Config{Address: u.URL}, silence)
	if err != nil {
		t.Fatal(err)
	}
	remembered, err := loadState(path)
	if err != nil {
		t.Fatal(err)
	}
	n := &notifier{client, remembered, newWebhook(h.URL + "/secret"), 0, ""}
	n.webhook.least, n.webhook.most = time.Millisecond, 20*time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- n.run(ctx) }()
	return func() { cancel(); <-ended }
}

// logged is what the program logs from here on, to be read when it is over.
func logged(t *testing.T) *bytes.Buffer {
	var text bytes.Buffer
	log.SetOutput(&text)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	return &text
}

func expect(t *testing.T, got []string, words string) {
	t.Helper()
	if strings.Join(got, " ") != words {
		t.Fatalf("posted %v: expected %s", got, words)
	}
}

func TestPostsEachStatusOnceAndNothingAgainAfterARestart(t *testing.T) {
	lines := []string{"{}", line(5, "a", "running"), line(6, "a", "running"), line(7, "a", "paused"), line(9, "a", "running")}
	more := append(slices.Clone(lines), line(12, "a", "successful"), hold)
	u := newUpstream(t, append(slices.Clone(lines), hold), more)
	h, path := newHook(t), filepath.Join(t.TempDir(), "state")
	stop := run(t, u, h, path, time.Minute)
	expect(t, h.wait(t, 3), "running paused running")
	stop()
	defer run(t, u, h, path, time.Minute)()
	expect(t, h.wait(t, 4), "running paused running successful")
	if len(u.queries) != 2 || !strings.Contains(u.queries[0], "index=0&") || !strings.Contains(u.queries[1], "index=9&") {
		t.Fatalf("asked %v", u.queries)
	}
}

func TestTwoStatusesAtOneIndexAreBothPostedAndNotAgainInOtherOrder(t *testing.T) {
	first := []string{"{}", line(5, "a", "running"), line(5, "a", "failed")}
	second := []string{"{}", line(5, "a", "failed"), line(5, "a", "running"), line(6, "b", "successful"), hold}
	h := newHook(t)
	defer run(t, newUpstream(t, first, second), h, filepath.Join(t.TempDir(), "state"), time.Minute)()
	expect(t, h.wait(t, 3), "running failed successful")
}

func TestAServerThatIsBehindRepeatsNothing(t *testing.T) {
	first := []string{"{}", line(5, "a", "running"), line(8, "a", "successful")}
	behind := []string{"{}", line(5, "a", "running"), line(9, "b", "running"), hold}
	h := newHook(t)
	defer run(t, newUpstream(t, first, behind), h, filepath.Join(t.TempDir(), "state"), time.Minute)()
	expect(t, h.wait(t, 3), "running successful running")
}

func TestARebuiltClusterWithLowerIndexesIsPosted(t *testing.T) {
	h := newHook(t)
	u := newUpstream(t, []string{"{}", line(500, "a", "running")}, []string{"{}", line(5, "b", "failed"), hold})
	defer run(t, u, h, filepath.Join(t.TempDir(), "state"), time.Minute)()
	expect(t, h.wait(t, 2), "running failed")
}

func TestAWebhookThatFailsIsTriedAgainAndItsAddressStaysSecret(t *testing.T) {
	text := logged(t)
	h := newHook(t, 500, 404, 429, 200, 400)
	u := newUpstream(t, []string{"{}", line(5, "a", "running"), line(6, "a", "paused"), line(7, "a", "failed"), hold})
	stop := run(t, u, h, filepath.Join(t.TempDir(), "state"), time.Minute)
	expect(t, h.wait(t, 2), "running failed") // 400: the message is at fault
	stop()
	if waited := h.asked[3].Sub(h.asked[2]); waited < time.Second {
		t.Fatalf("asked again %s after a Retry-After of a second", waited)
	}
	if strings.Contains(text.String(), "secret") || !strings.Contains(text.String(), "left out: 400") {
		t.Fatal(text)
	}
	gone := newWebhook("http://127.0.0.1:1/secret")
	if _, err := gone.try(nil, ""); err == nil || strings.Contains(err.Error(), "secret") {
		t.Fatal(err)
	}
}

func TestASilentStreamIsLeft(t *testing.T) {
	text := logged(t)
	u := newUpstream(t, []string{"{}", hold}, []string{"{}", line(5, "a", "running"), hold})
	h := newHook(t)
	stop := run(t, u, h, filepath.Join(t.TempDir(), "state"), 200*time.Millisecond)
	expect(t, h.wait(t, 1), "running")
	stop()
	if !strings.Contains(text.String(), "not even a heartbeat") {
		t.Fatal(text)
	}
}

func TestAnEmptyAnswerIsExplained(t *testing.T) {
	text := logged(t)
	u := newUpstream(t, []string{}, []string{"{}", line(5, "a", "running"), hold})
	h := newHook(t)
	stop := run(t, u, h, filepath.Join(t.TempDir(), "state"), time.Minute)
	h.wait(t, 1)
	stop()
	if !strings.Contains(text.String(), "may not read deployments") {
		t.Fatal(text)
	}
}

func TestNothingIsPostedThatCannotBeNoted(t *testing.T) {
	if _, err := loadState(filepath.Join(t.TempDir(), "no such folder", "state")); !errors.Is(err, errUnwritable) {
		t.Fatal(err)
	}
	folder := t.TempDir()
	path := filepath.Join(folder, "state")
	h := newHook(t)
	client, _ := connect(&api.Config{Address: newUpstream(t, []string{"{}", line(5, "a", "running"), line(6, "a", "failed")}).URL}, time.Minute)
	remembered, _ := loadState(path)
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	n := &notifier{client, remembered, newWebhook(h.URL), 0, ""}
	if err := n.run(t.Context()); !errors.Is(err, errUnwritable) {
		t.Fatal(err)
	}
	expect(t, h.taken, "running")
}

func TestABrokenStateFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	_ = os.WriteFile(path, []byte(`{"Index":5,"Posted":[{"ID"`), 0o600)
	if _, err := loadState(path); err == nil || !strings.Contains(err.Error(), "delete it") {
		t.Fatal(err)
	}
}

func TestTheStateStaysBounded(t *testing.T) {
	s, err := loadState(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(3 * rememberedMost) {
		s.note(&api.Deployment{ID: fmt.Sprint(i), Status: "running"}, 10+i)
		s.note(&api.Deployment{ID: "old", Status: fmt.Sprint(i % 2)}, 10+i)
	}
	if len(s.Posted) != rememberedMost || s.find("old") < 0 || s.Index != 9+3*rememberedMost {
		t.Fatalf("%d, the busy one at %d, index %d", len(s.Posted), s.find("old"), s.Index)
	}
}

func TestTheMessageIsSlacks(t *testing.T) {
	d := &api.Deployment{ID: "0123456789", JobID: "a/b<&>", Namespace: "ops", JobVersion: 7, Status: "failed", StatusDescription: "<late>"}
	const want = "*a/b&lt;&amp;&gt;* version 7 in ops: *failed* – &lt;late&gt;\n" +
		"<https://nomad.test/ui/jobs/a%2Fb%3C&%3E@ops/deployments|deployment 01234567>"
	if got := message(d, "https://nomad.test/"); got != want {
		t.Fatalf("%s\nexpected\n%s", got, want)
	}
}
