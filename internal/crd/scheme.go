package crd

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is that of all objects here.
var GroupVersion = schema.GroupVersion{Group: "wirelab.dev", Version: "v1alpha1"}

// Resources, as they stand in URLs.
const (
	LabNodes      = "labnodes"
	LabIdentities = "labidentities"
)

// NewScheme returns a scheme that knows the objects of this package and nothing else.
func NewScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	s.AddKnownTypes(GroupVersion, &LabNode{}, &LabNodeList{}, &LabIdentity{}, &LabIdentityList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return s
}
