// Command release makes a release of the commit that is checked out: release [-check] OUT, from the top of the repository.
// docs/releases.md says what is in one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.SetOutput(stderr)
	check := flags.Bool("check", false, "make it again, elsewhere and with nothing compiled before, and compare it with the files in OUT")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("usage: release [-check] OUT")
	}
	out, err := filepath.Abs(flags.Arg(0))
	if err != nil {
		return err
	}
	began := time.Now()
	say := func(what string) { fmt.Fprintf(stderr, "release: %4.0fs  %s\n", time.Since(began).Seconds(), what) }
	s, err := head(ctx, ".")
	if err != nil {
		return err
	}
	e, err := s.edition(ctx)
	if err != nil {
		return err
	}
	say(fmt.Sprintf("%s of commit %s", e.version, s.commit))
	if *check {
		return again(ctx, s, e, out, say)
	}
	if err := whole(out, func(part string) error { return makeRelease(ctx, s, e, part, "", say) }); err != nil {
		return err
	}
	say("all is in " + out)
	return nil
}

// edition is what the commit's changelog says that it is released as.
func (s source) edition(ctx context.Context) (edition, error) {
	changelog, err := s.git(ctx, "show", s.commit+":CHANGELOG.md")
	if err != nil {
		return edition{}, err
	}
	e, err := editionOf(changelog, s.commit, s.at)
	if err != nil {
		return edition{}, err
	}
	return e, s.checkTag(ctx, e.version)
}

// makeRelease makes all files of a release in a folder, from the commit's files in a folder of their own.
func makeRelease(ctx context.Context, s source, e edition, out, cache string, say func(string)) (err error) {
	tree, err := os.MkdirTemp("", "wirelab-release-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tree)) }()
	if err := s.extract(ctx, tree); err != nil {
		return err
	}
	b := &builder{source: s, edition: e, tree: tree, out: out, cache: cache, say: say}
	return b.build(ctx)
}

// whole has a folder filled beside the one that is asked for, which it replaces when all is in it.
func whole(out string, fill func(part string) error) error {
	before, err := os.ReadDir(out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !slices.ContainsFunc(before, func(f fs.DirEntry) bool { return f.Name() == sumsFile }) && len(before) > 0 {
		return fmt.Errorf("%s has files and is no release, so it is not replaced: name another folder, or remove it", out)
	}
	part := out + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := os.MkdirAll(part, 0o755); err != nil { //nolint:gosec // it is to be handed around
		return err
	}
	if err := fill(part); err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	return os.Rename(part, out)
}

// again makes the release once more and compares. Go's compiler begins without a cache, which would give the same files whatever
// the compiler does.
func again(ctx context.Context, s source, e edition, out string, say func(string)) (err error) {
	if _, err := os.Stat(filepath.Join(out, sumsFile)); err != nil {
		return fmt.Errorf("there is no release to compare with: run make release first: %w", err)
	}
	dir, err := os.MkdirTemp("", "wirelab-release-check-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	second, cache := filepath.Join(dir, "release"), filepath.Join(dir, "cache")
	if err := os.Mkdir(second, 0o755); err != nil { //nolint:gosec // it holds what is handed around
		return err
	}
	if err := makeRelease(ctx, s, e, second, cache, say); err != nil {
		return err
	}
	if err := compare(out, second); err != nil {
		return fmt.Errorf("two builds of %s are not the same: %w", s.commit, err)
	}
	say("all files are the same in both builds")
	return nil
}
