package labs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/internal/kube"
)

// ErrBusy means that another lab command is changing the lab at this moment.
var ErrBusy = errors.New("another lab command is at work on it")

// bootLock is the name, which no lab can have, of the lock that is held while nodes boot.
const bootLock = "boot of nodes"

// lock makes sure that one command at a time changes a lab. The caller unlocks.
func lock(ctx context.Context, e *docker.Engine, name string) (unlock func(), err error) {
	engine, err := engineID(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("lock lab %q: %w", name, err)
	}
	return lockOn(engine, name)
}

func engineID(ctx context.Context, e *docker.Engine) (string, error) {
	info, err := e.Info(ctx)
	if err != nil {
		return "", err
	}
	return cmp.Or(info.ID, e.Host()), nil
}

// awaitBoot makes sure that the nodes of one lab at a time boot, of which each takes a CPU for some seconds and kind
// gives up those that take longer than half a minute. It waits for its turn. The caller unlocks.
func awaitBoot(ctx context.Context, engine string, say func(string)) (unlock func(), err error) {
	for said := false; ; said = true {
		unlock, err := lockOn(engine, bootLock)
		if !errors.Is(err, ErrBusy) {
			return unlock, err
		}
		if !said {
			say("waiting until the nodes of another lab have booted")
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// lockOn takes the lock of a lab on an engine: see take. What it cannot see are commands in another network namespace, such as
// a container that has the engine's socket, or on another machine.
func lockOn(engine, name string) (unlock func(), err error) {
	return lockAs(fmt.Sprintf("lab %q", name), engine, name)
}

// lockCluster makes sure that one command at a time changes a cluster that no lab is known of, as [lockOn] does. The API
// server's address stands for the cluster: contexts of several names are one cluster's.
func lockCluster(c *kube.Client, context string) (unlock func(), err error) {
	return lockAs("cluster of context "+context, "cluster "+c.Config.Host, "install")
}

func lockAs(what, engine, name string) (unlock func(), err error) {
	sum := sha256.Sum256([]byte(engine))
	at := hex.EncodeToString(sum[:8]) + "/" + name
	unlock, err = take(at)
	if errors.Is(err, ErrBusy) {
		return nil, fmt.Errorf("%s: %w%s: wait for it to end", what, ErrBusy, holder(at))
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", what, err)
	}
	return unlock, nil
}
