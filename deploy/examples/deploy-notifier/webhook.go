package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"
)

// message is what people read: Slack's mrkdwn, in which these three characters alone must be escaped.
func message(d *api.Deployment, ui string) string {
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace
	text := fmt.Sprintf("*%s* version %d in %s: *%s*", escape(d.JobID), d.JobVersion, escape(d.Namespace), escape(d.Status))
	if d.StatusDescription != "" {
		text += " – " + escape(d.StatusDescription)
	}
	if ui != "" {
		job := url.PathEscape(d.JobID + "@" + d.Namespace)
		text += fmt.Sprintf("\n<%s/ui/jobs/%s/deployments|deployment %.8s>", strings.TrimRight(ui, "/"), job, d.ID)
	}
	return text
}

type webhook struct {
	url         string
	client      http.Client
	least, most time.Duration // between two tries
}

func newWebhook(url string) *webhook {
	return &webhook{url, http.Client{Timeout: 10 * time.Second}, time.Second, time.Minute}
}

// post tries until the webhook takes the message. It returns an error only when ctx is done; a try that is under way then is
// not broken off, so that a stop leaves no doubt whether it was taken.
func (w *webhook) post(ctx context.Context, text, key string) error {
	body, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		return err
	}
	for pause := w.least; ; pause = min(2*pause, w.most) {
		again, err := w.try(body, key)
		if err == nil {
			return nil
		}
		if again < 0 {
			log.Printf("the webhook refuses this message, left out: %v: %s", err, body)
			return nil
		}
		wait := max(pause, again)
		log.Printf("the webhook did not take it: %v; again in %s", err, wait)
		sleep(ctx, wait)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

const never = time.Duration(-1)

// try is one request. On an error it says how long the webhook wants to be left alone, or never where the message itself is
// at fault. All else that can be wrong (a webhook revoked, say) is mended by people, and nothing should be lost until then.
func (w *webhook) try(body []byte, key string) (time.Duration, error) {
	request, err := http.NewRequest(http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return 0, withoutURL(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", key)
	answer, err := w.client.Do(request)
	if err != nil {
		return 0, withoutURL(err)
	}
	answer.Body.Close()
	switch {
	case answer.StatusCode/100 == 2:
		return 0, nil
	case answer.StatusCode == http.StatusBadRequest, answer.StatusCode == http.StatusRequestEntityTooLarge:
		return never, errors.New(answer.Status)
	}
	seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After"))
	return time.Duration(max(0, seconds)) * time.Second, errors.New(answer.Status)
}

// withoutURL keeps the webhook's secret address out of the log.
func withoutURL(err error) error {
	var told *url.Error
	if errors.As(err, &told) {
		return told.Err
	}
	return err
}
