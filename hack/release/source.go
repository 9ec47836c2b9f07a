package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// source is a commit, of which a release is made.
type source struct {
	repository string // the folder
	commit     string // 40 hex digits
	at         time.Time
}

// head is the commit that is checked out, with nothing changed beside it.
func head(ctx context.Context, repository string) (source, error) {
	s := source{repository: repository}
	changed, err := s.git(ctx, "status", "--porcelain")
	if err != nil {
		return s, err
	}
	if changed != "" {
		first, more, _ := strings.Cut(changed, "\n")
		if more != "" {
			first += " and more"
		}
		return s, fmt.Errorf("a release is made of a commit, and this tree has changes (%s): commit them or put them away with git stash -u", strings.TrimSpace(first))
	}
	if s.commit, err = s.git(ctx, "rev-parse", "HEAD"); err != nil {
		return s, err
	}
	seconds, err := s.git(ctx, "show", "--no-patch", "--format=%ct", "HEAD")
	if err != nil {
		return s, err
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return s, fmt.Errorf("read the time of %s: %w", s.commit, err)
	}
	s.at = time.Unix(n, 0).UTC()
	return s, nil
}

// checkTag refuses a version that is another commit's already.
func (s source) checkTag(ctx context.Context, version string) error {
	tags, err := s.git(ctx, "tag", "--list", version)
	if err != nil || tags == "" {
		return err
	}
	of, err := s.git(ctx, "rev-parse", "refs/tags/"+version+"^{commit}")
	if err != nil || of == s.commit {
		return err
	}
	return fmt.Errorf("%s is the tag of another commit (%s): begin CHANGELOG.md with %q for what is new since, or check out %s", version, of[:12], "## "+next, version)
}

// extract writes the commit's files to a folder.
func (s source) extract(ctx context.Context, dir string) error {
	archive := exec.CommandContext(ctx, "git", "-C", s.repository, "archive", "--format=tar", s.commit)
	unpack := exec.CommandContext(ctx, "tar", "-x", "-C", dir)
	pipe, err := archive.StdoutPipe()
	if err != nil {
		return err
	}
	unpack.Stdin = pipe
	var said bytes.Buffer
	archive.Stderr, unpack.Stderr = &said, &said
	if err := archive.Start(); err != nil {
		return fmt.Errorf("git archive: %w", err)
	}
	err = unpack.Run()
	if err = errors.Join(err, archive.Wait()); err != nil {
		return fmt.Errorf("extract %s: %w: %s", s.commit, err, said.String())
	}
	return nil
}

func (s source) git(ctx context.Context, args ...string) (string, error) {
	return output(exec.CommandContext(ctx, "git", append([]string{"-C", s.repository}, args...)...))
}

// output runs a program and returns what it prints; its error has what it said.
func output(cmd *exec.Cmd) (string, error) {
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
