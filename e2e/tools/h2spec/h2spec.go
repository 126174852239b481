//go:build tools

// Package h2spec names the program to build, so that `go mod tidy` keeps its libraries.
package h2spec

import _ "github.com/summerwind/h2spec/cmd/h2spec"
