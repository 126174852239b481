// Command runc-unprivileged is runc for machines whose root lacks CAP_SYS_RESOURCE: it takes that capability, raised
// limits and negative OOM scores out of what is asked for, all of which such a root cannot grant, and becomes runc.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	args := os.Args[1:]
	if err := relax(args); err != nil {
		fmt.Fprintln(os.Stderr, "runc-unprivileged:", err)
		os.Exit(1)
	}
	for _, runc := range []string{"/usr/sbin/runc", "/usr/bin/runc"} {
		if _, err := os.Stat(runc); err == nil {
			err = syscall.Exec(runc, append([]string{runc}, args...), os.Environ())
			fmt.Fprintln(os.Stderr, "runc-unprivileged:", runc, err)
		}
	}
	os.Exit(1)
}

// relax edits the bundle of a container that is created, or the process that is run in one.
func relax(args []string) error {
	switch {
	case slices.Contains(args, "create"), slices.Contains(args, "run"):
		bundle := option(args, "--bundle", "-b")
		return edit(filepath.Join(bundle, "config.json"), func(doc map[string]any) {
			if process, ok := doc["process"].(map[string]any); ok {
				strip(process)
			}
		})
	case slices.Contains(args, "exec"):
		if process := option(args, "--process", "-p"); process != "" {
			return edit(process, strip)
		}
	}
	return nil
}

func strip(process map[string]any) {
	sets, _ := process["capabilities"].(map[string]any)
	for name, set := range sets {
		if list, ok := set.([]any); ok {
			sets[name] = slices.DeleteFunc(list, func(c any) bool { return c == "CAP_SYS_RESOURCE" })
		}
	}
	if score, ok := process["oomScoreAdj"].(float64); ok && score < 0 {
		process["oomScoreAdj"] = 0
	}
	delete(process, "rlimits")
}

func edit(path string, change func(map[string]any)) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	change(doc)
	if raw, err = json.Marshal(doc); err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}

// option is the value of a flag, or nothing.
func option(args []string, names ...string) string {
	for i, arg := range args {
		for _, name := range names {
			if arg == name && i+1 < len(args) {
				return args[i+1]
			}
			if value, ok := strings.CutPrefix(arg, name+"="); ok {
				return value
			}
		}
	}
	return ""
}
