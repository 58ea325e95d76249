{{/* Parts of pods, the same everywhere. The restricted Pod Security Standard, and nothing that can be written but volumes. */}}

{{- define "taoemb.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "taoemb.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Where its pods may run: a component's values. */}}
{{- define "taoemb.placement" -}}
{{- $said := dict -}}
{{- range $field := list "nodeSelector" "tolerations" "priorityClassName" -}}
{{- with index $ $field -}}{{- $_ := set $said $field . -}}{{- end -}}
{{- end -}}
{{- with $said -}}{{ toYaml . }}{{- end -}}
{{- end -}}

{{- define "taoemb.pullSecrets" -}}
{{- with .Values.imagePullSecrets -}}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* Requests and limits with GPUs: (list RESOURCES GPUS NAME). */}}
{{- define "taoemb.resources" -}}
{{- $resources := deepCopy (index . 0) -}}
{{- $gpus := int (index . 1) -}}
{{- if gt $gpus 0 -}}
{{- range $kind := list "requests" "limits" -}}
{{- $_ := set (index $resources $kind) (index $ 2) (toString $gpus) -}}
{{- end -}}
{{- end -}}
{{ toYaml $resources }}
{{- end -}}

{{/* One pod a node where that can be: (list ROOT COMPONENT). */}}
{{- define "taoemb.spread" -}}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "taoemb.selector" $ | nindent 8 }}
  {{- end }}
{{- end -}}

{{/* Volumes with a key of a Secret, mounted at /etc/taoemb/NAME: (list NAME SECRET KEY FILE). */}}
{{- define "taoemb.secretVolume" -}}
- name: {{ index . 0 }}
  secret:
    secretName: {{ index . 1 }}
    defaultMode: 0440
    items:
      - key: {{ index . 2 }}
        path: {{ index . 3 }}
{{- end -}}

{{- define "taoemb.mount" -}}
- name: {{ . }}
  mountPath: /etc/taoemb/{{ . }}
  readOnly: true
{{- end -}}
