package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/nomad/api"
)

// rememberedMost bounds the file; it is far more than any repeat of the stream goes back.
const rememberedMost = 1000

// state is the file: where in the stream the last deployment was, and what was posted of each, the newest last.
type state struct {
	Index  uint64
	Posted []posted

	path string
}

type posted struct {
	ID       string
	Index    uint64   // of the last status posted
	Statuses []string // posted at that index, the newest last: one index can tell two
}

// loadState reads the file, or makes a new one, so that a place that can't be written is found before the first post.
func loadState(path string) (*state, error) {
	s := &state{path: path}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, s.save()
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s: %w: expected what an earlier run wrote; delete it to begin anew", path, err)
	}
	return s, nil
}

func (s *state) find(id string) int {
	return slices.IndexFunc(s.Posted, func(p posted) bool { return p.ID == id })
}

// isNews is false for a status that was posted, or that is older than one that was: streams repeat themselves after a
// reconnect, and another server may be behind. Indexes are compared per deployment, since a rebuilt cluster's start over.
func (s *state) isNews(deployment *api.Deployment, index uint64) bool {
	at := s.find(deployment.ID)
	if at < 0 {
		return true
	}
	last := s.Posted[at]
	switch {
	case index < last.Index:
		return false
	case index == last.Index:
		return !slices.Contains(last.Statuses, deployment.Status)
	default:
		return deployment.Status != last.Statuses[len(last.Statuses)-1]
	}
}

// note takes down a status that was posted.
func (s *state) note(deployment *api.Deployment, index uint64) {
	one := posted{ID: deployment.ID, Index: index}
	if at := s.find(deployment.ID); at >= 0 {
		if s.Posted[at].Index == index {
			one.Statuses = s.Posted[at].Statuses
		}
		s.Posted = slices.Delete(s.Posted, at, at+1)
	}
	one.Statuses = append(one.Statuses, deployment.Status)
	s.Posted = append(s.Posted, one)
	s.Posted = s.Posted[max(0, len(s.Posted)-rememberedMost):]
	s.Index = index
}

// save replaces the file as a whole: whatever happens, the old or the new one is there.
func (s *state) save() error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	next := s.path + ".next"
	err = writeSynced(next, append(text, '\n'))
	if err == nil {
		err = os.Rename(next, s.path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(s.path))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUnwritable, err)
	}
	return nil
}

func writeSynced(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Sync(), file.Close())
}

// syncFolder makes the rename last through a power cut.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
