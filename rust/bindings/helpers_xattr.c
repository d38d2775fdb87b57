// SPDX-License-Identifier: GPL-2.0
#include "calf_bindings.h"

#include <linux/posix_acl_xattr.h>
#include <linux/security.h>

void calf_inode_no_xattrs(struct inode *inode)
{
	inode_has_no_xattr(inode);
	cache_no_acl(inode);
}

int calf_init_security(struct inode *inode, struct inode *dir, const struct dentry *dentry,
		       int (*store)(struct inode *, const struct xattr *, void *), void *data)
{
	return security_inode_init_security(inode, dir, &dentry->d_name, store, data);
}

void calf_acl_get(struct posix_acl *acl)
{
	posix_acl_dup(acl);
}

void calf_acl_put(struct posix_acl *acl)
{
	posix_acl_release(acl);
}

size_t calf_acl_size(const struct posix_acl *acl)
{
	return posix_acl_xattr_size(acl->a_count);
}

int calf_acl_create(struct inode *dir, umode_t *mode, struct posix_acl **default_acl,
		    struct posix_acl **acl)
{
	return posix_acl_create(dir, mode, default_acl, acl);
}

int calf_acl_chmod(struct mnt_idmap *idmap, struct dentry *dentry)
{
	return posix_acl_chmod(idmap, dentry, d_inode(dentry)->i_mode);
}

struct posix_acl *calf_acl_from_bytes(const void *from, size_t size)
{
	return posix_acl_from_xattr(&init_user_ns, from, size);
}

#ifdef CONFIG_FS_POSIX_ACL

int calf_acl_to_bytes(const struct posix_acl *acl, void *to)
{
	size_t size;
	void *bytes = posix_acl_to_xattr(&init_user_ns, acl, &size, GFP_NOFS);

	if (!bytes)
		return -ENOMEM;
	memcpy(to, bytes, size);
	kfree(bytes);
	return 0;
}

int calf_acl_update_mode(struct mnt_idmap *idmap, struct inode *inode, umode_t *mode,
			 struct posix_acl **acl)
{
	return posix_acl_update_mode(idmap, inode, mode, acl);
}

void calf_acl_cache(struct inode *inode, int type, struct posix_acl *acl)
{
	set_cached_acl(inode, type, acl);
}

#else /* the VFS asks for nothing then */

int calf_acl_to_bytes(const struct posix_acl *acl, void *to)
{
	return -EOPNOTSUPP;
}

int calf_acl_update_mode(struct mnt_idmap *idmap, struct inode *inode, umode_t *mode,
			 struct posix_acl **acl)
{
	return -EOPNOTSUPP;
}

void calf_acl_cache(struct inode *inode, int type, struct posix_acl *acl)
{
}

#endif
