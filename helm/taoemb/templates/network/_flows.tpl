{{/* A policy that allows one flow's incoming side: (list ROOT NAME PODS FROM PORTS), where PODS is a selector and FROM a list of peers. */}}
{{- define "taoemb.flow.in" -}}
{{- $root := index . 0 -}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "taoemb.metadata" (list $root (printf "%s-%s" (include "taoemb.name" $root) (index . 1)) "network") | nindent 2 }}
spec:
  podSelector:
    {{- index . 2 | nindent 4 }}
  policyTypes: [Ingress]
  ingress:
    - ports:
        {{- include "taoemb.flow.ports" (index . 4) | nindent 8 }}
      {{- with index . 3 }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end -}}

{{/* The same for the outgoing side: (list ROOT NAME PODS TO PORTS). */}}
{{- define "taoemb.flow.out" -}}
{{- $root := index . 0 -}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "taoemb.metadata" (list $root (printf "%s-%s" (include "taoemb.name" $root) (index . 1)) "network") | nindent 2 }}
spec:
  podSelector:
    {{- index . 2 | nindent 4 }}
  policyTypes: [Egress]
  egress:
    - ports:
        {{- include "taoemb.flow.ports" (index . 4) | nindent 8 }}
      {{- with index . 3 }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end -}}

{{- define "taoemb.flow.ports" -}}
{{- range $index, $port := . -}}
{{- if $index }}
{{ end -}}
- port: {{ $port }}
  protocol: TCP
{{- end -}}
{{- end -}}

{{/* Selectors. Pods that KServe makes are known by its own label, canaries included. */}}
{{- define "taoemb.pods" -}}
matchLabels:
  {{- include "taoemb.selector" . | nindent 2 }}
{{- end -}}

{{- define "taoemb.pods.of" -}}
matchExpressions:
  - key: serving.kserve.io/inferenceservice
    operator: In
    values: {{ toJson . }}
{{- end -}}

{{/* Names of the judges that KServe runs, as JSON. */}}
{{- define "taoemb.judge.names" -}}
{{- $names := list -}}
{{- range $key := list "judge" "heldoutJudge" -}}
{{- if has (index $.Values $key).mode (list "cpu" "vllm") -}}
{{- $names = append $names (include (printf "taoemb.%s" $key) $) -}}
{{- end -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}
