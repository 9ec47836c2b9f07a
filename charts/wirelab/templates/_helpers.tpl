{{/* Every object of the chart has this name; one agent per node leaves no room for a second release. */}}
{{- define "wirelab.agent" -}}wirelab-agent{{- end -}}

{{- define "wirelab.selector" -}}
app.kubernetes.io/name: {{ include "wirelab.agent" . }}
{{- end -}}

{{- define "wirelab.labels" -}}
{{ include "wirelab.selector" . }}
app.kubernetes.io/part-of: wirelab
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "wirelab.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* Settings that contradict each other; each value by itself is the schema's to check. */}}
{{- define "wirelab.validate" -}}
{{- $keys := dict
  "image" (list "repository" "tag" "pullPolicy")
  "cluster" (list "name")
  "bpf" (list "monitorAggregation" "masquerade" "hostLegacyRouting" "allowFallback" "ctMax")
  "ipam" (list "mode")
  "debug" (list "enabled" "verbose")
  "prometheus" (list "enabled" "port")
  "clusterHealth" (list "enabled" "port")
-}}
{{- range $key := concat (keys $keys | sortAlpha) (list "kubeProxyReplacement" "routingMode" "autoDirectNodeRoutes" "ipv4NativeRoutingCIDR" "enableIPv4Masquerade" "installNoConntrackIptablesRules" "devices" "MTU" "k8sServiceHost" "k8sServicePort") -}}
{{- if or (not (hasKey $.Values $key)) (kindIs "invalid" (get $.Values $key)) -}}
{{- fail (printf "%s has no value: null takes the chart's own away; give one, or leave the key out" $key) -}}
{{- end -}}
{{- end -}}
{{- range $section, $below := $keys -}}
{{- range $key := $below -}}
{{- if or (not (hasKey (get $.Values $section) $key)) (kindIs "invalid" (get (get $.Values $section) $key)) -}}
{{- fail (printf "%s.%s has no value: null takes the chart's own away; give one, or leave the key out" $section $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.prometheus.enabled .Values.clusterHealth.enabled (eq (.Values.prometheus.port | int) (.Values.clusterHealth.port | int)) -}}
{{- fail (printf "prometheus.port and clusterHealth.port are both %d: agents listen at both on the node's address; change one" (.Values.prometheus.port | int)) -}}
{{- end -}}
{{- if and .Values.enableIPv4Masquerade (not .Values.ipv4NativeRoutingCIDR) -}}
{{- fail "enableIPv4Masquerade needs ipv4NativeRoutingCIDR, to know where pods keep their own address: set it to a prefix with all podCIDRs of the cluster, or enableIPv4Masquerade to false" -}}
{{- end -}}
{{- $replacement := .Values.kubeProxyReplacement | toString -}}
{{- if has $replacement (list "partial" "probe") -}}
{{- fail (printf "kubeProxyReplacement cannot be %s: half of the Services in BPF and half in kube-proxy would be two translators for one flow; set it to true and take kube-proxy away, or to false" $replacement) -}}
{{- end -}}
{{- if and (has $replacement (list "true" "strict")) (not .Values.k8sServiceHost) -}}
{{- fail "kubeProxyReplacement needs k8sServiceHost: without kube-proxy the agents cannot reach the API server by its Service before they have made it work; set it to the API server's address" -}}
{{- end -}}
{{- if and .Values.bpf.masquerade (not (has $replacement (list "true" "strict"))) -}}
{{- fail "bpf.masquerade needs kubeProxyReplacement: where kube-proxy translates Services, only iptables knows which packets it did; set kubeProxyReplacement to true, or bpf.masquerade to false" -}}
{{- end -}}
{{- if and .Values.k8sServicePort (not .Values.k8sServiceHost) -}}
{{- fail "k8sServicePort needs k8sServiceHost: set the address of the API server, too" -}}
{{- end -}}
{{- if and .Values.debug.verbose (not .Values.debug.enabled) -}}
{{- fail "debug.verbose needs debug.enabled: without it nothing of it is logged" -}}
{{- end -}}
{{- end -}}

{{/* The agent's configuration file. The agent refuses keys it does not know. */}}
{{- define "wirelab.config" -}}
clusterName: {{ .Values.cluster.name | quote }}
daemonSet: {{ printf "%s/%s" .Release.Namespace (include "wirelab.agent" .) }}
kubeProxyReplacement: {{ .Values.kubeProxyReplacement | toString | quote }}
routingMode: {{ .Values.routingMode }}
autoDirectNodeRoutes: {{ .Values.autoDirectNodeRoutes }}
ipv4NativeRoutingCIDR: {{ .Values.ipv4NativeRoutingCIDR | quote }}
enableIPv4Masquerade: {{ .Values.enableIPv4Masquerade }}
installNoConntrackIptablesRules: {{ .Values.installNoConntrackIptablesRules }}
devices: {{ .Values.devices | toJson }}
mtu: {{ .Values.MTU | int }}
bpf:
  monitorAggregation: {{ .Values.bpf.monitorAggregation }}
  masquerade: {{ .Values.bpf.masquerade }}
  hostLegacyRouting: {{ .Values.bpf.hostLegacyRouting }}
  allowFallback: {{ .Values.bpf.allowFallback }}
  ctMax: {{ .Values.bpf.ctMax | int }}
ipam:
  mode: {{ .Values.ipam.mode }}
debug:
  enabled: {{ .Values.debug.enabled }}
  verbose: {{ .Values.debug.verbose | quote }}
prometheus:
  enabled: {{ .Values.prometheus.enabled }}
  port: {{ .Values.prometheus.port | int }}
clusterHealth:
  enabled: {{ .Values.clusterHealth.enabled }}
  port: {{ .Values.clusterHealth.port | int }}
paths:
  hostRoot: /host
  proc: /host-proc-sys
{{- end -}}
