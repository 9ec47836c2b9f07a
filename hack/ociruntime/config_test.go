package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// oneLine takes the indentation out, so that tests can be read.
var oneLine = strings.NewReplacer("\n", "", "  ", "", "\": ", "\":")

// rewritten writes content to a file, applies edit to it and returns what the file holds then.
func rewritten(t *testing.T, content string, edit func(path string) error) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := edit(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return oneLine.Replace(string(data))
}

func TestDropFromConfigs(t *testing.T) {
	tests := []struct {
		name, in, want string
		args           func(path string) []string
	}{
		{
			name: "create takes it out of every set of the bundle and keeps 64-bit numbers",
			in: `{"process":{"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE"],"effective":["CAP_SYS_RESOURCE"]},
				"rlimits":[{"hard":18446744073709551615}]}}`,
			want: `{"process":{"capabilities":{"bounding":["CAP_CHOWN"],"effective":[]},"rlimits":[{"hard":18446744073709551615}]}}`,
			args: func(path string) []string {
				return []string{"--root", "/x", "create", "--bundle", filepath.Dir(path), "id"}
			},
		},
		{
			name: "exec takes it out of the process file",
			in:   `{"args":["sh"],"capabilities":{"bounding":["CAP_SYS_RESOURCE","CAP_KILL"]}}`,
			want: `{"args":["sh"],"capabilities":{"bounding":["CAP_KILL"]}}`,
			args: func(path string) []string { return []string{"exec", "--process", path, "--detach", "id"} },
		},
		{
			name: "a process without capabilities stays without",
			in:   `{"args":["sh"]}`,
			want: `{"args":["sh"]}`,
			args: func(path string) []string { return []string{"exec", "--process", path, "id"} },
		},
		{
			name: "other commands change nothing",
			in:   `{"capabilities":{"bounding":["CAP_SYS_RESOURCE"]}}`,
			want: `{"capabilities":{"bounding":["CAP_SYS_RESOURCE"]}}`,
			args: func(path string) []string { return []string{"kill", "id", path} },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := rewritten(t, tt.in, func(path string) error { return dropFromConfigs(tt.args(path)) })
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestRegister(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"nothing yet", `{}`, `{"default-runtime":"wirelab","runtimes":{"wirelab":{"path":"/r"}}}`},
		{
			"the rest stays",
			`{"default-runtime":"runc","mtu":1400,"runtimes":{"kata":{"path":"/k"}}}`,
			`{"default-runtime":"wirelab","mtu":1400,"runtimes":{"kata":{"path":"/k"},"wirelab":{"path":"/r"}}}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			once := rewritten(t, tt.in, func(path string) error { return register(path, "/r") })
			if once != tt.want {
				t.Errorf("got  %s\nwant %s", once, tt.want)
			}
			twice := rewritten(t, once, func(path string) error { return register(path, "/r") })
			if twice != once {
				t.Errorf("registering again changed\n%s\nto\n%s", once, twice)
			}
		})
	}
}

func TestRegisterMakesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "docker", "daemon.json")
	if err := register(path, "/r"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestRegisterRefuses(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"another default", `{"default-runtime":"kata"}`, `default-runtime is "kata" already`},
		{"no JSON", `{"mtu":`, "unexpected end of JSON input"},
		{"no object", `null`, "want an object"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "daemon.json")
			if err := os.WriteFile(path, []byte(tt.in), 0o600); err != nil {
				t.Fatal(err)
			}
			err := register(path, "/r")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
			if data, _ := os.ReadFile(path); string(data) != tt.in {
				t.Errorf("the file changed to %s", data)
			}
		})
	}
}
