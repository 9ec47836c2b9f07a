package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wirelab.dev/wirelab/labs/passport"
)

// TestExplainFileThatCannotBe: it is known before anything is looked for, or sent.
func TestExplainFileThatCannotBe(t *testing.T) {
	withoutDocker(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "a")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--svg", dir}, exitFailed, dir + " cannot be written: " + dir + " is no regular file"},
		{[]string{"--html", dir}, exitFailed, dir + " cannot be written"},
		{[]string{"--svg", filepath.Join(dir, "none", "a.svg")}, exitFailed, "none/a.svg cannot be written"},
		{[]string{"--html", "/proc/a.html"}, exitFailed, "/proc/a.html cannot be written"},
		{[]string{"--svg", ""}, exitUsage, "--svg: its value is empty"},
		{[]string{"--svg", file, "--html", file}, exitUsage, "--svg and --html are both to write"},
	} {
		out, errOut, code := call(t, append([]string{"explain", "a", "b", "--name", "x"}, c.args...)...)
		if code != c.code || !strings.Contains(errOut, c.want) || strings.Contains(errOut, "docker") || out != "" {
			t.Errorf("lab explain %q: exit %d: %s%s", c.args, code, errOut, out)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	if _, errOut, code := call(t, "explain", "a", "b", "--name", "x", "--svg", file); code != exitFailed || !strings.Contains(errOut, "docker") {
		t.Errorf("with a file that can be written: exit %d: %s", code, errOut)
	}
}

// TestPassportFiles writes a recorded passport as a picture and as a page.
func TestPassportFiles(t *testing.T) {
	b, err := os.ReadFile("../../labs/passport/testdata/ebpf-across.json")
	var in passport.Input
	if err == nil {
		err = json.Unmarshal(b, &in)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := passportFiles{svg: filepath.Join(dir, "a.svg"), html: filepath.Join(dir, "a.html")}
	p := passport.Make(in)
	p.Failed = `<b>"none"</b>`
	if err := f.write("explain", p); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(f.svg)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(f.html)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		string(svg), "tcp: &lt;b&gt;", "forwarded, bpf_redirect_neigh, flow new, identity 62717 -&gt; 9596",
		"<tr><td>request</td><td>worker</td><td>on lxc2560d225 of default/demo-mm94h</td><td>bpf_redirect_peer in lab_from_network",
		"<tr><td>answer</td><td>worker</td>", "prefers-color-scheme: dark",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page has no %.60q", want)
		}
	}
	for _, outside := range []string{"src=", "href=", "<script", "@import", "<link"} {
		if strings.Contains(string(page), outside) {
			t.Errorf("the page has %s", outside)
		}
	}
	if rest := strings.ReplaceAll(string(page), "http://www.w3.org/2000/svg", ""); strings.Contains(rest, "http:") || strings.Contains(rest, "https:") {
		t.Error("the page names another address")
	}
}
