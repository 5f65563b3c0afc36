//go:build tools

// Package nomad names the real Nomad agent as a dependency of the tests, so
// that `go build github.com/hashicorp/nomad` finds it and go.sum pins it.
package nomad

import _ "github.com/hashicorp/nomad"
