package kubeconfig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// config is a kubeconfig as kind writes one.
func config(name string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Y2E=
    server: https://127.0.0.1:1
  name: %[1]s
contexts:
- context:
    cluster: %[1]s
    user: %[1]s
  name: %[1]s
current-context: %[1]s
kind: Config
users:
- name: %[1]s
  user:
    client-key-data: a2V5
`, name)
}

// mine is a kubeconfig that somebody keeps by hand.
const mine = `# my clusters, do not touch
apiVersion: v1
kind: Config
preferences: {}
current-context: work # the one
x-note: kept by hand
clusters:
  - name: work
    cluster: {server: "https://work.example", certificate-authority-data: "d29yaw=="}
contexts:
- name: work
  context: {cluster: work, user: me}
- name: play
  context: {cluster: work, user: me, namespace: play}
users:
- name: me
  user: {token: "secret"} # mine alone
`

func folder(t *testing.T, files map[string]string) (Files, string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Files{filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")}, dir
}

// merged is what kubectl makes of the files.
func merged(t *testing.T, f Files) *api.Config {
	t.Helper()
	c, err := (&clientcmd.ClientConfigLoadingRules{Precedence: f}).Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	return string(b)
}

func TestAddAndRemoveLeaveWhatIsNotOurs(t *testing.T) {
	f, dir := folder(t, map[string]string{"a": mine})
	must(t, f.Check(t.Context(), "kind-x"))
	if content(t, f[0]) != mine {
		t.Error("checking changed the file")
	}
	must(t, f.Add(t.Context(), "kind-x", config("kind-x"), true))
	c := merged(t, f)
	if c.CurrentContext != "kind-x" || c.Contexts["play"].Namespace != "play" || string(c.AuthInfos["kind-x"].ClientKeyData) != "key" {
		t.Errorf("after adding: %+v", c)
	}
	for _, part := range []string{"# my clusters, do not touch", "x-note: kept by hand", "# mine alone", `token: "secret"`} {
		if !strings.Contains(content(t, f[0]), part) {
			t.Errorf("%q is gone from\n%s", part, content(t, f[0]))
		}
	}
	must(t, f.Remove(t.Context(), "kind-x"))
	if c := merged(t, f); c.CurrentContext != "work" || len(c.Contexts) != 2 || len(c.Clusters) != 1 || len(c.AuthInfos) != 1 {
		t.Errorf("after removing: current %q, %d contexts", c.CurrentContext, len(c.Contexts))
	}
	if s := content(t, f[0]); strings.Contains(s, "kind-x") || !strings.Contains(s, "# mine alone") {
		t.Errorf("after removing:\n%s", s)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("beside the file: %v, %v", left, err)
	}
}

func TestCurrentContextComesBack(t *testing.T) {
	ctx := context.Background()
	use := func(name string) func(*testing.T, Files) {
		return func(t *testing.T, f Files) {
			must(t, f.change(ctx, f.present(), func(d map[string]*document) error { d[f[0]].setCurrent(name); return nil }))
		}
	}
	add := func(name string) func(*testing.T, Files) {
		return func(t *testing.T, f Files) { must(t, f.Add(ctx, name, config(name), true)) }
	}
	keep := func(name string) func(*testing.T, Files) {
		return func(t *testing.T, f Files) { must(t, f.Add(ctx, name, config(name), false)) }
	}
	remove := func(name string) func(*testing.T, Files) {
		return func(t *testing.T, f Files) { must(t, f.Remove(ctx, name)) }
	}
	for name, tt := range map[string]struct {
		did  []func(*testing.T, Files)
		want string
	}{
		"up, down":                        {[]func(*testing.T, Files){add("k"), remove("k")}, "work"},
		"up twice, down":                  {[]func(*testing.T, Files){add("k"), add("k"), remove("k")}, "work"},
		"another chosen meanwhile":        {[]func(*testing.T, Files){add("k"), use("play"), remove("k")}, "play"},
		"another chosen, and up again":    {[]func(*testing.T, Files){add("k"), use("play"), add("k"), remove("k")}, "play"},
		"two, the last first":             {[]func(*testing.T, Files){add("k"), add("l"), remove("l"), remove("k")}, "work"},
		"two, the first first":            {[]func(*testing.T, Files){add("k"), add("l"), remove("k"), remove("l")}, "work"},
		"the one before is gone":          {[]func(*testing.T, Files){add("k"), remove("work"), remove("k")}, ""},
		"up beside another":               {[]func(*testing.T, Files){keep("k")}, "work"},
		"up beside another, down":         {[]func(*testing.T, Files){keep("k"), remove("k")}, "work"},
		"up, up without taking over":      {[]func(*testing.T, Files){add("k"), keep("k")}, "k"},
		"the same, and down":              {[]func(*testing.T, Files){add("k"), keep("k"), remove("k")}, "work"},
		"chosen back, and down":           {[]func(*testing.T, Files){add("k"), use("play"), keep("k"), use("k"), remove("k")}, "work"},
		"chosen by hand after down began": {[]func(*testing.T, Files){add("k"), add("l"), use("k"), remove("l"), remove("k")}, "work"},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := folder(t, map[string]string{"a": mine})
			for _, do := range tt.did {
				do(t, f)
			}
			if got := merged(t, f).CurrentContext; got != tt.want {
				t.Errorf("current is %q, want %q", got, tt.want)
			}
		})
	}
}

// TestSeveralFiles holds the choice of files against what kubectl does by itself.
func TestSeveralFiles(t *testing.T) {
	other := strings.NewReplacer("work", "other", "play", "other2", "name: me", "name: you", "user: me", "user: you").Replace(mine)
	for name, tt := range map[string]struct {
		files      map[string]string
		addTo      string // the file that gets the entry
		afterwards string // the current context after removal
	}{
		"first is there":         {map[string]string{"a": mine, "b": other}, "a", "work"},
		"first is not there":     {map[string]string{"b": mine, "c": other}, "b", "work"},
		"none is there":          {map[string]string{}, "c", ""},
		"a later one is current": {map[string]string{"a": strings.Replace(mine, "current-context: work # the one\n", "", 1), "b": other}, "a", "other"},
		"an entry is there":      {map[string]string{"a": mine, "b": string(config("kind-x"))}, "b", "work"},
	} {
		t.Run(name, func(t *testing.T) {
			f, dir := folder(t, tt.files)
			must(t, f.Check(t.Context(), "kind-x"))
			// What kubectl would do.
			theirs, _ := folder(t, tt.files)
			rules := clientcmd.NewDefaultPathOptions()
			t.Setenv("KUBECONFIG", strings.Join(theirs, string(filepath.ListSeparator)))
			want, err := rules.GetStartingConfig()
			must(t, err)
			one, err := clientcmd.Load(config("kind-x"))
			must(t, err)
			for k, v := range one.Clusters {
				if was := want.Clusters[k]; was != nil {
					v.LocationOfOrigin = was.LocationOfOrigin
				}
				want.Clusters[k] = v
			}
			for k, v := range one.AuthInfos {
				if was := want.AuthInfos[k]; was != nil {
					v.LocationOfOrigin = was.LocationOfOrigin
				}
				want.AuthInfos[k] = v
			}
			for k, v := range one.Contexts {
				if was := want.Contexts[k]; was != nil {
					v.LocationOfOrigin = was.LocationOfOrigin
				}
				want.Contexts[k] = v
			}
			want.CurrentContext = "kind-x"
			must(t, clientcmd.ModifyConfig(rules, *want, false))

			must(t, f.Add(t.Context(), "kind-x", config("kind-x"), true))
			for i := range f {
				ours, theirs := strings.Contains(read(f[i]), "client-key-data"), strings.Contains(read(theirs[i]), "client-key-data")
				if ours != theirs || ours != (filepath.Base(f[i]) == tt.addTo) {
					t.Errorf("%s has the entry: %v, kubectl: %v, want it in %s", f[i], ours, theirs, tt.addTo)
				}
			}
			if got := merged(t, f).CurrentContext; got != "kind-x" {
				t.Errorf("current is %q", got)
			}
			must(t, f.Remove(t.Context(), "kind-x"))
			if got := merged(t, f).CurrentContext; got != tt.afterwards {
				t.Errorf("current is %q afterwards, want %q", got, tt.afterwards)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func read(name string) string { b, _ := os.ReadFile(name); return string(b) }

func TestRemoveOfNothingMakesNothing(t *testing.T) {
	dir := t.TempDir()
	f := Files{filepath.Join(dir, "no", "such", "config")}
	must(t, f.Remove(t.Context(), "kind-x"))
	must(t, f.Check(t.Context(), "kind-x"))
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("made: %v, %v", left, err)
	}
	must(t, f.Add(t.Context(), "kind-x", config("kind-x"), true))
	if c := merged(t, f); c.CurrentContext != "kind-x" {
		t.Errorf("added to a new file: %+v", c)
	}
	// A file that cannot be read as a kubeconfig is in the way of nobody whose context it does not have.
	g, _ := folder(t, map[string]string{"a": "::: no : kubeconfig\n"})
	if err := g.Remove(t.Context(), "kind-x"); err != nil {
		t.Errorf("remove of what is not there: %v", err)
	}
}

func TestCheckNamesTheFileAndTheFault(t *testing.T) {
	for name, tt := range map[string]struct {
		files map[string]string
		make  func(t *testing.T, dir string)
		say   string
	}{
		"no YAML":       {files: map[string]string{"a": "a: b: c\n"}, say: "parse %s/a"},
		"no kubeconfig": {files: map[string]string{"a": "clusters: 7\n"}, say: "parse %s/a"},
		"a later file":  {files: map[string]string{"a": mine, "b": "clusters: 7\n"}, say: "parse %s/b"},
		"a folder": {make: func(t *testing.T, dir string) {
			must(t, os.Mkdir(filepath.Join(dir, "a"), 0o700))
		}, say: "read %s/a"},
		"below a file": {make: func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "c"), nil, 0o600))
			must(t, os.Symlink("c/x", filepath.Join(dir, "a")))
		}, say: "%s/a"},
	} {
		t.Run(name, func(t *testing.T) {
			f, dir := folder(t, tt.files)
			if tt.make != nil {
				tt.make(t, dir)
			}
			err := f.Check(t.Context(), "kind-x")
			var fault *Error
			if want := fmt.Sprintf(tt.say, dir); !errors.As(err, &fault) || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want an *Error with %q", err, want)
			}
			before := read(f[0])
			if err := f.Add(t.Context(), "kind-x", config("kind-x"), true); err == nil {
				t.Error("adding all the same succeeded")
			}
			if read(f[0]) != before {
				t.Error("adding changed the file")
			}
		})
	}
}

func TestLocksOfOthersAndOfTheDead(t *testing.T) {
	f, dir := folder(t, map[string]string{"a": mine})
	lockFile := f[0] + ".lock"
	// As client-go and kind make it, held for a moment.
	must(t, os.WriteFile(lockFile, nil, 0))
	go func() {
		time.Sleep(300 * time.Millisecond)
		_ = os.Remove(lockFile)
	}()
	start := time.Now()
	must(t, f.Add(t.Context(), "kind-x", config("kind-x"), true))
	if took := time.Since(start); took < 250*time.Millisecond {
		t.Errorf("the lock of another was not waited for: %s", took)
	}
	// Held for ever: the file is named, and the content stays.
	must(t, os.WriteFile(lockFile, nil, 0))
	before := content(t, f[0])
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	if err := f.Remove(ctx, "kind-x"); err == nil || content(t, f[0]) != before {
		t.Errorf("with the lock held: %v", err)
	}
	cancel()
	must(t, os.Remove(lockFile))
	// Ours, of a process that was killed.
	must(t, os.WriteFile(lockFile, []byte(lockMark), 0o600))
	must(t, f.Remove(t.Context(), "kind-x"))
	// Ours, held.
	unlock, err := lockAll(t.Context(), f[:1])
	must(t, err)
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := f.Add(ctx, "kind-x", config("kind-x"), true); err == nil {
		t.Error("two held the lock at a time")
	}
	unlock()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("beside the file: %v, %v", left, err)
	}
}

func TestJSONStaysReadable(t *testing.T) {
	f, _ := folder(t, map[string]string{"a": `{"apiVersion":"v1","kind":"Config","clusters":[],"contexts":[],"users":[],"current-context":""}`})
	must(t, f.Add(t.Context(), "kind-x", config("kind-x"), true))
	if c := merged(t, f); c.CurrentContext != "kind-x" || c.Contexts["kind-x"].Cluster != "kind-x" {
		t.Errorf("%+v\n%s", c, content(t, f[0]))
	}
	must(t, f.Remove(t.Context(), "kind-x"))
	if c := merged(t, f); c.CurrentContext != "" || len(c.Contexts) != 0 {
		t.Errorf("%+v", c)
	}
}

func TestFromEnv(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	for env, want := range map[string]string{"": "/home/me/.kube/config", "/a::/b:/a": "/a /b", ":": "/home/me/.kube/config"} {
		t.Setenv("KUBECONFIG", env)
		if got := strings.Join(FromEnv(), " "); got != want {
			t.Errorf("KUBECONFIG=%q: %s, want %s", env, got, want)
		}
	}
}
