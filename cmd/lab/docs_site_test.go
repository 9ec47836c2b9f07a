package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/docsite"
)

// TestDocumentation: every page is led to, no link leads nowhere, and each command has its page.
func TestDocumentation(t *testing.T) {
	site, err := documentation(newRootCmd())
	if err != nil {
		t.Fatal(err)
	}
	for page, want := range map[string]string{
		"commands/lab_up.html": "--keep-context", "commands/lab_bpf_lb_list.html": "lab bpf lb list", "walkthroughs/ebpf.html": "bin/lab up ebpf",
		"index.html": `href="commands/lab.html"`, "search-index.js": `"to":"commands/lab_verify.html`,
	} {
		if !strings.Contains(string(site[page]), want) {
			t.Errorf("%s has no %s", page, want)
		}
	}
	again, err := documentation(newRootCmd())
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range site {
		if string(again[name]) != string(content) {
			t.Errorf("%s is another one when it is made again", name)
		}
	}
}

func TestDocsWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	out, errOut, code := call(t, "docs", "--write", dir)
	if _, err := os.Stat(filepath.Join(dir, "walkthroughs", "ebpf.html")); code != exitFine || err != nil || !strings.Contains(out, filepath.Join(dir, "index.html")) {
		t.Fatalf("exit %d, %v: %s%s", code, err, out, errOut)
	}
	if _, errOut, code = call(t, "docs", "--write", dir); code != exitFailed || !strings.Contains(errOut, dir+" is not empty") {
		t.Errorf("written where something is: exit %d: %s", code, errOut)
	}
	if _, errOut, code = call(t, "docs", "--write", filepath.Join(t.TempDir(), "c"), "--listen", "127.0.0.1:0"); code != exitUsage || !strings.Contains(errOut, "--listen") {
		t.Errorf("written and served: exit %d: %s", code, errOut)
	}
	if _, errOut, code = call(t, "docs", "--listen", "127.0.0.1:99999"); code != exitUsage || !strings.Contains(errOut, "want an address and a port") {
		t.Errorf("a port that there cannot be: exit %d: %s", code, errOut)
	}
}

// What cannot be written whole is not left there in part.
func TestDocsWrittenInPart(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	for name, test := range map[string]struct {
		ctx  context.Context
		site docsite.Site
	}{
		"a file where a folder has to be": {t.Context(), docsite.Site{"index.html": nil, "a.html": nil, "a.html/b.html": nil}},
		"interrupted":                     {ended, docsite.Site{"index.html": nil}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := writeSite(test.ctx, io.Discard, test.site, dir); err == nil {
				t.Error("no error")
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
			if err := writeSite(t.Context(), io.Discard, docsite.Site{"index.html": nil}, dir); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
}

func TestFindPage(t *testing.T) {
	site, err := documentation(newRootCmd())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"questions": "questions.html", "docs/questions.md": "questions.html", "ebpf": "walkthroughs/ebpf.html",
		"walkthroughs/ebpf.md": "walkthroughs/ebpf.html", "explain": "explain.html", "shell": "commands/lab_shell.html",
	} {
		if got, err := findPage(site, name); got != want || err != nil {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
}

func TestDocsServed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, w := io.Pipe()
	root := newRootCmd()
	root.SetArgs([]string{"docs", "questions"})
	root.SetOut(w)
	ended := make(chan error, 1)
	go func() {
		ended <- root.ExecuteContext(ctx)
		w.Close()
	}()
	told := make([]byte, 200)
	n, err := r.Read(told)
	if err != nil {
		t.Fatal(err)
	}
	url := regexp.MustCompile(`http://127\.0\.0\.1:\d+/questions\.html`).FindString(string(told[:n]))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(string(page), "<title>Which question, which command") {
		t.Errorf("%d, %v: %s", answer.StatusCode, err, page)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ends with %v", err)
	}
}
