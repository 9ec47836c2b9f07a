package labs

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/version"
	"wirelab.dev/wirelab/profiles"
)

// recordName is the ConfigMap in the system namespace that holds the profile in force.
const recordName = "wirelab-lab"

const (
	recordProfile = "profile.yaml"
	recordVersion = "version"
)

// labelsOf are the marks of a lab's nodes: which profile, and the whole of it as it was when they were made.
func labelsOf(p *profiles.Profile) (map[string]string, error) {
	y, err := p.YAML()
	if err != nil {
		return nil, err
	}
	return map[string]string{cluster.LabelProfile: p.Metadata.Name, cluster.LabelMadeFrom: string(y)}, nil
}

// madeFrom is the profile a cluster was made from.
func madeFrom(c *cluster.Cluster) (*profiles.Profile, error) {
	p, err := profiles.Parse("lab "+c.Name, []byte(c.Labels[cluster.LabelMadeFrom]), profiles.Options{})
	if err != nil {
		return nil, fmt.Errorf("read the profile lab %q was made from: %w: remove the lab with lab down %s", c.Name, err, c.Name)
	}
	return p, nil
}

// writeRecord puts the profile in force into the cluster.
func writeRecord(ctx context.Context, c kubernetes.Interface, lab string, p *profiles.Profile) error {
	y, err := p.YAML()
	if err != nil {
		return err
	}
	data, err := json.Marshal(&corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: SystemNamespace, Name: recordName,
			Labels: map[string]string{"app.kubernetes.io/managed-by": "wirelab"},
		},
		Data: map[string]string{recordProfile: string(y), recordVersion: version.Version},
	})
	if err != nil {
		return fmt.Errorf("write record of lab %q: %w", lab, err)
	}
	_, err = c.CoreV1().ConfigMaps(SystemNamespace).Patch(ctx, recordName, types.ApplyPatchType, data,
		metav1.PatchOptions{FieldManager: "wirelab-lab", Force: new(true)})
	if err != nil {
		return fmt.Errorf("write record of lab %q: %w", lab, err)
	}
	return nil
}

// readRecord reads the profile in force and the version of lab that wrote it. A lab without a record, because it was
// interrupted before, has the profile it was made from.
func readRecord(ctx context.Context, c kubernetes.Interface, cl *cluster.Cluster) (*profiles.Profile, string, error) {
	m, err := c.CoreV1().ConfigMaps(SystemNamespace).Get(ctx, recordName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		p, err := madeFrom(cl)
		return p, "", err
	}
	if err != nil {
		return nil, "", fmt.Errorf("read record of lab %q: %w", cl.Name, err)
	}
	p, err := profiles.Parse("lab "+cl.Name, []byte(m.Data[recordProfile]), profiles.Options{})
	if err != nil {
		return nil, "", fmt.Errorf("read record of lab %q: %w", cl.Name, err)
	}
	return p, m.Data[recordVersion], nil
}
